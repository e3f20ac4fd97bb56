"""`headrace pack`: full shards with video in place of JPEG, several times smaller, for the same readers."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.errors import ConfigurationError, DatasetError, DiskFullError
from protocol.packing import MAX_GOP
from sink.pack.dataset import PackReport, Plan, finish, pack
from sink.pack.encoder import MAX_PSNR_DB, Quality

_MAX_CRF = 51


@dataclass(frozen=True)
class PackFlags:
    """Write the full shards of a dataset again with video in place of JPEG, and compare them with what they were."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    out: Path | None = None
    """Directory of the packed copy: a new one, or one that this command has made from the same dataset."""
    replace: bool = False
    """In place: packed shards take the names of their originals, which are kept beside them as NAME.original."""
    delete_originals: bool = False
    """With --replace: delete the originals, each after all of it was compared with the packed shard."""
    finished: bool = False
    """The collection is finished: mark the shards that could still grow as full first. No sink may be running."""
    min_psnr: float = 38.0
    """Every frame is at least this close to its decoded JPEG; what is not is encoded with more bytes [dB]."""
    crf: int = 17
    """Quantiser of libx264 to begin with, 1 (best) to 51."""
    gop: int = 16
    """Steps from one key frame to the next, 1 to 18; more are smaller."""
    jobs: int = len(os.sched_getaffinity(0))
    """Threads that encode and compare [threads]."""
    json: bool = False
    """Print one JSON object at the end: sizes in bytes, PSNR in dB."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if a shard could not be packed. Raises ConfigurationError, DatasetError, DiskFullError."""
    flags = tyro.cli(PackFlags, prog="headrace pack", args=argv)
    _check(flags)
    began = time.monotonic(), time.process_time()
    try:
        sealed = finish(flags.data) if flags.finished else []
        with _display() as advance:
            quality = Quality(flags.crf, flags.min_psnr, flags.gop)
            report = pack(Plan(flags.data, flags.out, flags.delete_originals, quality, flags.jobs, advance))
    except OSError as error:
        raise _explained(error, flags) from error
    found = _summary(report, sealed)
    found |= {"seconds": time.monotonic() - began[0], "cpu_s": time.process_time() - began[1]}
    sys.stdout.write((json.dumps(found, indent=2) if flags.json else "\n".join(_lines(report, found))) + "\n")
    return 1 if report.failed else 0


def _check(flags: PackFlags) -> None:
    if (flags.out is None) is not flags.replace:
        raise ConfigurationError("give one of --out DIR (a packed copy) and --replace (in place)")
    if flags.delete_originals and not flags.replace:
        raise ConfigurationError("--delete-originals is for --replace; a copy leaves DIR as it is")
    if not (1 <= flags.crf <= _MAX_CRF and 1 <= flags.gop <= MAX_GOP and flags.jobs >= 1):
        found = f"--crf {flags.crf}, --gop {flags.gop}, --jobs {flags.jobs}"
        raise ConfigurationError(f"{found}: expected 1 to {_MAX_CRF}, 1 to {MAX_GOP}, at least 1")
    if not 0 < flags.min_psnr < MAX_PSNR_DB:
        raise ConfigurationError(f"--min-psnr {flags.min_psnr}: expected more than 0 and less than {MAX_PSNR_DB:g} dB")


@contextmanager
def _display() -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("pack", total=0)
        total = 0

        def advance(done: int, more: int) -> None:
            nonlocal total
            total += more
            progress.update(task, advance=done, total=total)

        yield advance


def _summary(report: PackReport, sealed: list[Path]) -> dict[str, Any]:
    psnr = report.psnr_db
    lists = {name: [str(path) for path in getattr(report, name)] for name in _LISTS}
    return {
        **lists,
        "failed": {str(path): why for path, why in report.failed.items()},
        "finished": [str(path) for path in sealed],
        "source_bytes": report.source_bytes,
        "packed_bytes": report.packed_bytes,
        "ratio": report.source_bytes / report.packed_bytes if report.packed_bytes else None,
        "frames": len(psnr),
        "psnr_db": {"mean": fmean(psnr), "least": min(psnr)} if psnr else None,
    }


_LISTS = ("packed", "there", "same", "unsealed", "kept", "deleted")


def _lines(report: PackReport, found: dict[str, Any]) -> Iterator[str]:
    for path in report.unsealed:
        yield f"not packed, it may still grow (--finished if not): {path}"
    for why in report.failed.values():
        yield f"not packed: {why}"
    for path in report.kept:
        yield f"kept: {path} (--delete-originals deletes it after one more comparison)"
    if report.psnr_db:
        mean, least = found["psnr_db"]["mean"], found["psnr_db"]["least"]
        sizes = f"{report.source_bytes / 1e6:.1f} MB to {report.packed_bytes / 1e6:.1f} MB, {found['ratio']:.2f} times"
        frames = f"{found['frames']} frames of {mean:.1f} dB, the worst {least:.1f} dB"
        yield f"packed {len(report.packed)} shards, {sizes} smaller; {frames}; {found['seconds']:.1f} s"
    deleted = (report.deleted, "originals deleted")
    counted = ((report.there, "packed before"), (report.same, "left as they are"), deleted)
    others = ", ".join(f"{len(paths)} {what}" for paths, what in counted if paths)
    if others or not report.psnr_db:
        yield others or "nothing to pack"


def _explained(error: OSError, flags: PackFlags) -> DatasetError | DiskFullError:
    target = flags.out or flags.data
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"disk full: {target} has no room for more; what it has is whole. Make room, then run again"
        )
    place = f"{error.filename}: " if error.filename else ""
    return DatasetError(f"{place}{error.strerror}; what {target} has is whole. Run this again to go on")


if __name__ == "__main__":
    sys.exit(main())
