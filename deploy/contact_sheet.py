"""`headrace sheet`: one picture that shows several episodes, so that a person can judge a dataset at a glance.

One row for each episode and camera: its caption on the left, then frames at evenly spaced steps, the first and the last
among them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.messages import Outcome
from protocol.shard_view import EpisodeView
from protocol.spec import StreamSpec

# All lengths in pixels.
WIDTH = 1600
MARGIN, GAP, EPISODE_GAP = 24, 6, 18
GUTTER = 168
HEADER = 56
LABEL = 20
CAPTION_LINE = 19
MIN_FRAME_WIDTH = 96

BACKGROUND = (24, 25, 28)
BRIGHT, DIM = (236, 237, 240), (150, 154, 162)
OUTCOME_COLOURS = {Outcome.SUCCESS: (116, 199, 132), Outcome.FAILURE: (232, 168, 92), Outcome.VOID: (220, 96, 96)}


@dataclass(frozen=True)
class SheetFlags:
    """Draw key frames of several episodes of a dataset into one PNG."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    out: Path = Path("sheet.png")
    """The picture to write."""
    stream: str | None = None
    """Show this stream only; every stream with cameras if not given."""
    count: int = 6
    """Episodes of each stream, spread over the dataset [episodes]."""
    columns: int = 8
    """Frames in a row, evenly spaced, the first and the last among them [frames]."""
    camera: tuple[str, ...] = ()
    """Show these cameras only; all of them if not given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet. Raises ConfigurationError, DatasetError."""
    flags = tyro.cli(SheetFlags, prog="headrace sheet", args=argv)
    out = contact_sheet(flags.data, flags.out, flags.stream, flags.count, flags.columns, flags.camera)
    sys.stdout.write(f"{out}\n")
    return 0


def contact_sheet(
    root: Path,
    out: Path,
    stream: str | None = None,
    count: int = 6,
    columns: int = 8,
    cameras: Sequence[str] = (),
) -> Path:
    """Draw `count` episodes of a stream (of every stream with cameras, if None) and return `out`.

    Raises ConfigurationError if nothing can be shown as asked, DatasetError if `root` is no directory.
    """
    if count < 1 or columns < 1:
        raise ConfigurationError(f"--count {count} and --columns {columns} must be at least 1")
    with DatasetView(root) as view:
        list(view.new_episodes())
        sheet = _Sheet(columns)
        for name in _streams(view, root, stream):
            with_steps = sorted((each for each in view.kept_episodes(name) if each.steps), key=lambda each: each.index)
            if with_steps:
                shown = [with_steps[place] for place in evenly(len(with_steps), count)]
                sheet.add_stream(shown, _cameras(shown[0], cameras), len(with_steps))
        if sheet.empty:
            raise ConfigurationError(
                f"{root}: no episode with pictures was committed yet, or all are discarded; try again later"
            )
    try:
        sheet.image().save(out, optimize=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--out {out}: cannot write the picture: {error}; expected e.g. sheet.png") from error
    return out


# --- what to show -----------------------------------------------------------------------------------------------


def _streams(view: DatasetView, root: Path, stream: str | None) -> list[str]:
    cameras = {shard.spec.name: shard.spec.cameras for shard in view.shards.values()}
    if stream is not None and stream not in cameras:
        raise ConfigurationError(f"{root} has no stream {stream!r}; it has: {', '.join(sorted(cameras)) or 'none yet'}")
    shown = [name for name in sorted(cameras) if cameras[name] and stream in (None, name)]
    if cameras and not shown:
        raise ConfigurationError(f"{root}: no cameras in {stream or ', '.join(sorted(cameras))}; there are no pictures")
    return shown


def _cameras(episode: EpisodeView, wanted: Sequence[str]) -> list[str]:
    known = [camera.name for camera in episode.shard.spec.cameras]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigurationError(
            f"stream {episode.shard.spec.name!r} has no camera {unknown[0]!r}; it has: {', '.join(known)}"
        )
    return list(wanted) or known


def evenly(length: int, count: int) -> list[int]:
    """At most `count` places in range(length), evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(count, length)).tolist()})


# --- drawing ----------------------------------------------------------------------------------------------------


class _Sheet:
    """Rows that are drawn one below the other; the picture is as high as they need."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._tile = max(MIN_FRAME_WIDTH, (WIDTH - 2 * MARGIN - GUTTER - GAP * (columns - 1)) // columns)
        self._width = 2 * MARGIN + GUTTER + self._tile * columns + GAP * (columns - 1)
        self._strips: list[Image.Image] = []
        self._title = ImageFont.load_default(24)
        self._bold = ImageFont.load_default(20)
        self._text = ImageFont.load_default(14)
        self._small = ImageFont.load_default(12)

    @property
    def empty(self) -> bool:
        """Nothing was added."""
        return not self._strips

    def add_stream(self, episodes: Sequence[EpisodeView], cameras: Sequence[str], total: int) -> None:
        """A header, then the episodes; `total`: how many there are to choose from."""
        self._strips.append(self._header(episodes[0].shard.spec, len(episodes), total))
        for episode in episodes:
            for place, camera in enumerate(cameras):
                self._strips.append(self._row(episode, camera, last=place == len(cameras) - 1))

    def image(self) -> Image.Image:
        """All of it."""
        made = Image.new("RGB", (self._width, sum(strip.height for strip in self._strips) + MARGIN), BACKGROUND)
        top = 0
        for strip in self._strips:
            made.paste(strip, (0, top))
            top += strip.height
        return made

    def _header(self, spec: StreamSpec, shown: int, total: int) -> Image.Image:
        strip = Image.new("RGB", (self._width, HEADER), BACKGROUND)
        draw = ImageDraw.Draw(strip)
        draw.text((MARGIN, HEADER // 2), spec.name, BRIGHT, self._title, anchor="lm")
        said = f"{shown} of {total} episodes with pictures · {spec.rate_hz:g} Hz"
        draw.text((self._width - MARGIN, HEADER // 2), said, DIM, self._text, anchor="rm")
        return strip

    def _row(self, episode: EpisodeView, camera: str, last: bool) -> Image.Image:
        spec = next(each for each in episode.shard.spec.cameras if each.name == camera)
        height = round(self._tile * spec.height / spec.width)
        inside = max(height + LABEL, 4 * CAPTION_LINE + 16)
        strip = Image.new("RGB", (self._width, inside + (EPISODE_GAP if last else GAP)), BACKGROUND)
        draw = ImageDraw.Draw(strip)
        self._caption(draw, episode, camera, max(height, 4 * CAPTION_LINE + 16))
        for column, step in enumerate(evenly(episode.steps, self._columns)):
            left = MARGIN + GUTTER + column * (self._tile + GAP)
            strip.paste(_frame(episode, camera, step, (self._tile, height)), (left, 0))
            draw.text((left + self._tile // 2, height + LABEL // 2), f"step {step}", DIM, self._small, anchor="mm")
        return strip

    def _caption(self, draw: ImageDraw.ImageDraw, episode: EpisodeView, camera: str, height: int) -> None:
        colour = OUTCOME_COLOURS[episode.outcome]
        draw.rectangle((MARGIN, 0, MARGIN + 3, height - 1), fill=colour)
        left = MARGIN + 14
        draw.text((left, 0), f"index {episode.index}", BRIGHT, self._bold)
        seed = f"seed {int(episode.row['seed'])}"
        ended = f"{episode.outcome.name.lower()}, {episode.steps} steps"
        lines = ((camera, BRIGHT), (ended, colour), (seed, DIM))
        for number, (line, shade) in enumerate(lines):
            text = self._fit(line, GUTTER - 24)
            draw.text((left, 28 + number * CAPTION_LINE), text, shade, self._text)

    def _fit(self, line: str, width: int) -> str:
        """The line, cut where it would run into the frames."""
        while self._text.getlength(line) > width:
            line = line.rstrip("…")[:-1] + "…"
        return line


def _frame(episode: EpisodeView, camera: str, step: int, size: tuple[int, int]) -> Image.Image:
    """One frame, as large as the tile: reduced smoothly, or enlarged with its pixels visible."""
    image = Image.fromarray(episode.image(camera, step))
    if image.width > size[0]:
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.resize(size, Image.Resampling.NEAREST if size[0] >= 3 * image.width else Image.Resampling.BICUBIC)


if __name__ == "__main__":
    sys.exit(main())
