"""`headrace namo scenes`: writes a set of scenes as MJCF files with a manifest."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from producers.namo.scene_picture import contact_sheet
from producers.namo.scene_set import write_set
from producers.namo.scenes import GeneratedScenes, LoadedScene
from protocol.errors import ConfigurationError

_REPORT_S = 5.0


@dataclass(frozen=True)
class ScenesFlags:
    """Write NAMO scenes as MJCF files with a manifest; the place in the manifest is the environment index."""

    out: Path
    """Directory to write to. A run that was cut off goes on where it was."""
    template: Literal["two_rooms", "corridor", "four_rooms", "maze", "all"] = "all"
    """Kind of rooms; all: each in turn."""
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """Number and size of boxes, doors blocked."""
    count: int = 100
    """How many [scenes]."""
    seed: int = 0
    """Root of all random numbers."""
    overwrite: bool = False
    """Replace another set that is in the directory."""
    picture: Path | None = None
    """Also draw the first scenes, from above, into this PNG."""
    pictured: int = 24
    """How many to draw [scenes]."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the set. Raises ConfigurationError, SceneError."""
    flags = tyro.cli(ScenesFlags, prog="headrace namo scenes", args=argv)
    if flags.count < 1 or flags.pictured < 1:
        raise ConfigurationError(f"--count {flags.count} and --pictured {flags.pictured}: expected at least 1")
    source = GeneratedScenes(flags.template, flags.difficulty, flags.seed, flags.count)
    first: list[LoadedScene] = []
    begin = time.monotonic()
    manifest = write_set(flags.out, _scenes(source, first, flags.pictured), flags.overwrite, _Progress(flags.count))
    took = time.monotonic() - begin
    hops = Counter(entry.meta.hops for entry in manifest.scenes)
    counted = ", ".join(f"{hops[each]} with {each}" for each in sorted(hops))
    sys.stdout.write(
        f"{flags.out}: {flags.count} scenes in {took:.1f} s; boundaries between robot and goal: {counted}\n"
    )
    if flags.picture is not None:
        _draw(first, flags.picture)
    return 0


def _scenes(source: GeneratedScenes, first: list[LoadedScene], kept: int) -> Iterator[LoadedScene]:
    for index in range(len(source)):
        loaded = source.load(index)
        if len(first) < kept:
            first.append(loaded)
        yield loaded


def _draw(scenes: Sequence[LoadedScene], out: Path) -> None:
    try:
        contact_sheet(scenes).save(out, optimize=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--picture {out}: cannot write the picture: {error}; expected e.g. set.png"
        ) from error
    sys.stdout.write(f"{out}\n")


class _Progress:
    """A line on stderr now and then."""

    def __init__(self, count: int) -> None:
        self._count, self._said = count, time.monotonic()

    def __call__(self, written: int) -> None:
        if time.monotonic() - self._said >= _REPORT_S:
            self._said = time.monotonic()
            sys.stderr.write(f"{written} of {self._count} scenes\n")
