"""`headrace export video`: films and sheets for people.

    INDEX_CAMERA.mp4        H.264, every frame of the episode at the stream's rate
    INDEX_CAMERA.gif        the same in 256 colours
    INDEX.png               frames at evenly spaced steps, a row of them for each camera

MP4 has 4:2:0 chroma in BT.709 and says so, because players guess otherwise by the size. Its sides are even: the last
row or column is doubled where they are not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from protocol.errors import ConfigurationError
from sink.export.act import chosen_cameras
from sink.export.episode import Episode
from sink.export.h264 import h264_options
from sink.export.plan import Done, Plan, Written
from sink.export.whole_file import whole_file

# BT.709 in the numbers of ITU-T H.273.
_BT709 = 1
_LIMITED_RANGE = 1
# Else the last bit depends on where libswscale finds the picture in memory.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
# Frames from which the colours of a GIF are taken.
_PALETTE_FRAMES = 8
# Of a sheet [pixels].
_TILE, _GAP, _TITLE, _LABEL = 200, 6, 34, 18
_BACKGROUND, _BRIGHT, _DIM = (24, 25, 28), (236, 237, 240), (150, 154, 162)
Image8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Video:
    """Write a film of each episode and camera, or a sheet of each episode."""

    follows: ClassVar[bool] = True

    kind: Literal["mp4", "gif", "png"] = "mp4"
    """Films as MP4 or GIF, or sheets of still frames as PNG."""
    cameras: tuple[str, ...] = ()
    """These cameras only; all if not given."""
    every: int = 1
    """mp4, gif: take every so many-th step; the film lasts as long [steps]."""
    crf: int = 20
    """mp4: quality of H.264, 0 (lossless in YUV) to 51; 20 is hard to tell from the original."""
    frames: int = 8
    """png: frames in a row, evenly spaced, the first and the last among them [frames]."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if there are no such cameras."""
        if not chosen_cameras(plan, self.cameras):
            raise ConfigurationError(f"stream {plan.spec.name!r} has no cameras; there is nothing to show")
        if self.every < 1 or self.frames < 1 or not 0 <= self.crf <= 51:
            raise ConfigurationError("--every and --frames must be at least 1, --crf from 0 to 51")

    def begin(self, plan: Plan, folder: Path) -> VideoWriter:
        """Nothing is shared by the episodes."""
        return VideoWriter(self, folder, chosen_cameras(plan, self.cameras))


@dataclass(frozen=True)
class VideoWriter:
    """Writes episode by episode."""

    flags: Video
    folder: Path
    cameras: tuple[str, ...]

    def write(self, episode: Episode) -> Written:
        """The films or the sheet of one episode. Raises CorruptionError, OSError."""
        if self.flags.kind == "png":
            name = f"{episode.index:06d}.png"
            with whole_file(self.folder / name) as path:
                frames = write_sheet(path, episode, self.cameras, self.flags.frames)
            return Written((name,), frames)
        shown = range(0, episode.steps, self.flags.every)
        rate = Fraction(episode.spec.rate_hz).limit_denominator(1_000_000) / self.flags.every
        names = []
        for camera in self.cameras:
            names.append(f"{episode.index:06d}_{camera}.{self.flags.kind}")
            images = (episode.image(camera, step) for step in shown)
            with whole_file(self.folder / names[-1]) as path:
                try:
                    if self.flags.kind == "mp4":
                        write_mp4(path, images, rate, self.flags.crf)
                    else:
                        write_gif(path, images, rate, _palette(episode, camera, shown))
                except FFmpegError as error:  # an OSError, but its file is not that of the error
                    raise OSError(error.errno, f"{error.strerror}, while {names[-1]} was encoded") from error
        return Written(tuple(names), len(shown) * len(self.cameras))

    def finish(self, done: Sequence[Done]) -> None:
        """There is nothing but the episodes."""


def write_mp4(path: Path, images: Iterator[Image8], rate: Fraction, crf: int) -> None:
    """uint8[H, W, 3] upright RGB, each one frame, `rate` in frames a second. Raises FFmpegError."""
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        for step, image in enumerate(images):
            image = _even(image)
            if step == 0:
                stream.height, stream.width, stream.pix_fmt = image.shape[0], image.shape[1], "yuv420p"
                context = stream.codec_context
                context.options = {"preset": "medium", **h264_options(crf, stream.width)}
                context.color_range, context.colorspace = _LIMITED_RANGE, _BT709
                context.color_primaries = context.color_trc = _BT709
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
                interpolation=_EXACT,
                threads=1,
            )
            frame.pts, frame.time_base = step, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_gif(path: Path, images: Iterator[Image8], rate: Fraction, palette: Image.Image) -> None:
    """As `write_mp4`; GIF counts in 10 ms, so the rate is not exact. palette: an image of mode P."""
    colours = np.zeros((256, 4), np.uint8)
    given = np.array(palette.getpalette() or [], np.uint8).reshape(-1, 3)
    colours[: len(given), 1:], colours[:, 0] = given, 255  # alpha, red, green, blue
    with av.open(path, "w", format="gif") as container:
        stream = container.add_stream("gif", rate=rate)
        for step, image in enumerate(images):
            if step == 0:
                stream.height, stream.width, stream.pix_fmt = image.shape[0], image.shape[1], "pal8"
            chosen = np.asarray(Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
            frame = av.VideoFrame.from_ndarray((chosen, colours), format="pal8")  # type: ignore[arg-type]  # as documented
            frame.pts, frame.time_base = step, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _palette(episode: Episode, camera: str, shown: range) -> Image.Image:
    """256 colours of some frames of the film."""
    steps = [shown[place] for place in evenly(len(shown), _PALETTE_FRAMES)]
    some = np.concatenate([episode.image(camera, step) for step in steps])
    return Image.fromarray(some).quantize(256, method=Image.Quantize.MEDIANCUT)


def _even(image: Image8) -> Image8:
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_sheet(path: Path, episode: Episode, cameras: Sequence[str], count: int) -> int:
    """Draw the sheet of an episode; returns how many frames it shows."""
    steps = evenly(episode.steps, count)
    heights = [round(_TILE * camera.height / camera.width) for camera in map(episode.camera, cameras)]
    width = _GAP + len(steps) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, _TITLE + sum(heights) + len(cameras) * (_LABEL + _GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title = f"index {episode.index} · {episode.entry.outcome} · {episode.steps} steps · seed {episode.seed}"
    draw.text((_GAP, _TITLE // 2), title, _BRIGHT, ImageFont.load_default(16), anchor="lm")
    small, top = ImageFont.load_default(12), _TITLE
    for camera, height in zip(cameras, heights, strict=True):
        for column, step in enumerate(steps):
            left = _GAP + column * (_TILE + _GAP)
            image = Image.open(io.BytesIO(episode.jpeg(camera, step))).convert("RGB")
            sheet.paste(image.resize((_TILE, height), Image.Resampling.LANCZOS), (left, top))
            draw.text((left, top + height + _LABEL // 2), f"{camera}, step {step}", _DIM, small, anchor="lm")
        top += height + _LABEL + _GAP
    sheet.save(path, "PNG")
    return len(steps) * len(cameras)


def evenly(length: int, count: int) -> list[int]:
    """At most `count` places in range(length), evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(count, length)).tolist()})
