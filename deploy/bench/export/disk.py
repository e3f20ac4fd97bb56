"""The ACT export, decoded and uncompressed, against decoding and writing the same frames plainly, in turns."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from deploy.bench.figures import Figure
from deploy.bench.infer.servers import run_python

FIGURE = "export.act_vs_disk"
AT_LEAST = 0.8


def act_vs_disk(data: Path, work: Path, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """One process each, both durable at the end. data: a dataset; work: a folder that must not exist.

    Starting the interpreter is in neither; finding the episodes and the manifest are in ours. Raises ProgramError.
    """
    ours, plain = [], []
    for number in range(1, rounds + 1):
        ours.append(_frames_bytes_per_s(_act(data, work)))
        plain.append(_frames_bytes_per_s(_plain(data, work)))
        say(f"  {number}: ACT export {ours[-1] / 1e6:.0f}, plain {plain[-1] / 1e6:.0f} MB/s")
    ratios = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
    return [
        Figure(FIGURE, median(ratios), "×", AT_LEAST, runs=ratios),
        Figure("export.act_mb_per_s", median(ours) / 1e6, "MB/s", runs=[each / 1e6 for each in ours]),
        Figure("export.plain_mb_per_s", median(plain) / 1e6, "MB/s", runs=[each / 1e6 for each in plain]),
    ]


def _act(data: Path, work: Path) -> dict[str, Any]:
    words = ["act", "--data", str(data), "--out", str(work), "--workers", "1", "--json"]
    return _measured("sink.export", words, work)


def _plain(data: Path, work: Path) -> dict[str, Any]:
    return _measured("sink.bench.raw_frames", ["--data", str(data), "--out", str(work)], work)


def _measured(module: str, words: list[str], work: Path) -> dict[str, Any]:
    os.sync()  # what others left to write is not measured
    found: dict[str, Any] = json.loads(run_python(module, words))
    shutil.rmtree(work)
    return found


def _frames_bytes_per_s(report: dict[str, Any]) -> float:
    """Of an export its files count, which are frames but for a few kB."""
    return float(report["bytes"] / report["seconds"])
