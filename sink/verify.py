"""`headrace verify`: read everything in a dataset and compare it with its checksums and with the exactly-once rule.

It shares the row types with the writer and nothing else, changes nothing, and may run beside a sink: what is committed
while it runs is not looked at.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from protocol.dataset_view import shard_paths
from protocol.errors import ConfigurationError, DatasetError
from protocol.flags import Place
from sink.content_audit import ContentAudit
from sink.fault import Fault
from sink.flag_audit import FlagFile, flag_files
from sink.row_audit import check_rows, read_frame_table
from sink.shard_audit import ShardAudit, UnreadableError, audit_shard

IDENTITY_NAME = "dataset.json"
Advance = Callable[[int, int], object]  # bytes done, bytes more than known before


@dataclass(frozen=True)
class VerifyFlags:
    """Read every row, frame, column, attribute, document and flag of a dataset, and compare with their checksums."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    jobs: int = min(4, len(os.sched_getaffinity(0)))
    """Threads that read and compare [threads]."""
    json: bool = False
    """Print one JSON object instead: totals, faults, notes."""


@dataclass
class VerifyReport:
    """What was read, and what was found. discarded, flagged: episodes of which that is said. notes: harmless."""

    streams: set[str] = field(default_factory=set)
    shards: int = 0
    episodes: int = 0
    frames: int = 0
    discarded: int = 0
    flagged: int = 0
    bytes: int = 0
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line."""
        counted = ((self.episodes, "episode"), (self.frames, "frame"), (len(self.streams), "stream"))
        what = ", ".join(_count(*each) for each in (*counted, (self.shards, "shard")))
        said = ((self.discarded, "discarded"), (self.flagged, "flagged"))
        what += "".join(f", {number} {word}" for number, word in said if number)
        rate = self.bytes / 1e6 / max(self.seconds, 1e-3)
        read = f"{what}; {self.bytes / 1e6:.1f} MB in {self.seconds:.2f} s, {rate:.0f} MB/s"
        return f"{_count(len(self.faults), 'fault')} in {read}" if self.faults else f"whole: {read}"

    def to_json(self) -> str:
        """One object."""
        names = ("shards", "episodes", "frames", "discarded", "flagged", "bytes", "seconds")
        totals = {name: getattr(self, name) for name in names}
        found = {name: [fault.to_dict() for fault in getattr(self, name)] for name in ("faults", "notes")}
        return json.dumps({"whole": not self.faults, "streams": sorted(self.streams), **totals, **found}, indent=2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if the dataset is whole, 1 if not. Raises DatasetError, ConfigurationError."""
    flags = tyro.cli(VerifyFlags, prog="headrace verify", args=argv)
    if flags.jobs < 1:
        raise ConfigurationError(f"--jobs {flags.jobs}: expected at least 1")
    report = _verify_with_display(flags.data, flags.jobs)
    if flags.json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        lines = [*(f"note: {note}" for note in report.notes), *map(str, report.faults), report.summary]
        sys.stdout.write("\n".join(lines) + "\n")
    return 1 if report.faults else 0


def _verify_with_display(root: Path, jobs: int) -> VerifyReport:
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("verify", total=0)
        total = 0

        def advance(done: int, more: int) -> None:
            nonlocal total
            total += more
            progress.update(task, advance=done, total=total)

        return verify(root, jobs, advance)


def verify(root: Path, jobs: int = 1, advance: Advance = lambda *_: None) -> VerifyReport:
    """Read a whole dataset with `jobs` threads. Raises DatasetError if `root` holds none."""
    began = time.monotonic()
    report = VerifyReport()
    # Before the shards: what they speak of was committed then.
    flags, report.faults = flag_files(root)
    paths = shard_paths(root)
    identity = _identity(root, paths, report)
    rows: dict[str, list[tuple[Path, NDArray[np.uint64], NDArray[np.int64]]]] = {}
    first: dict[str, ShardAudit] = {}
    with ThreadPoolExecutor(jobs, thread_name_prefix="verify") as pool:
        for path in paths:
            shard = _audit(path, report, pool, advance)
            if shard is None:
                continue
            name = shard.spec.name
            report.faults += _check_identity(root, shard, identity, first.setdefault(name, shard))
            rows.setdefault(name, []).append((path, shard.rows["index"].copy(), shard.numbers))
    for stream in rows.values():
        report.faults += _duplicates(stream)
    for file in flags:
        name = file.path.parent.relative_to(root).as_posix()
        _add_flags(report, file, first.get(name), [part[1] for part in rows.get(name, [])])
    report.streams = set(rows)
    report.notes += _missing_shards(paths)
    report.seconds = time.monotonic() - began
    return report


def _add_flags(
    report: VerifyReport, file: FlagFile, shard: ShardAudit | None, indices: Sequence[NDArray[np.uint64]]
) -> None:
    if shard is None:
        report.notes.append(Fault(file.path, "the flags of a stream that has no shard here; they were not checked"))
        return
    found = file.audit(Place(shard.dataset_uuid, shard.spec.name), np.concatenate(indices))
    report.discarded += found.discarded
    report.flagged += found.flagged
    report.faults += found.faults
    report.notes += found.notes


def _audit(path: Path, report: VerifyReport, pool: ThreadPoolExecutor, advance: Advance) -> ShardAudit | None:
    """Read one shard; None if it cannot be, or is gone (a sink removes the empty shard that it did not need)."""
    report.shards += 1
    try:
        shard = audit_shard(path)
    except UnreadableError as error:
        if path.exists():
            report.faults.append(error.fault)
        else:
            report.shards -= 1
        return None
    try:
        shard.faults += check_rows(shard)
        table = read_frame_table(shard)
        content = ContentAudit(shard, table, lambda size: advance(size, 0))
        advance(0, content.total_bytes)
        shard.faults += content.run(pool)
        report.frames += len(table.places)
        report.bytes += content.total_bytes
    except UnreadableError as error:
        shard.faults.append(error.fault)
    finally:
        shard.close()
    report.episodes += len(shard.rows)
    report.faults += shard.faults
    report.notes += shard.notes
    return shard


# --- what concerns more than one shard --------------------------------------------------------------------------


def _identity(root: Path, paths: Sequence[Path], report: VerifyReport) -> str | None:
    """The uuid that all shards should have, if the directory says one."""
    path = root / IDENTITY_NAME
    try:
        return str(msgspec.json.decode(path.read_bytes(), type=dict[str, object])["uuid"])
    except FileNotFoundError:
        if not paths:
            raise DatasetError(
                f"{root} is no dataset: expected {IDENTITY_NAME} and shards like STREAM/000000.h5, found neither; "
                "give the directory that `headrace sink --data` was given"
            ) from None
        report.notes.append(Fault(path, "it is missing, so that nothing tells whether all shards belong together"))
    except (msgspec.DecodeError, KeyError) as error:
        report.faults.append(Fault(path, f"expected the identity of a dataset as JSON: {error}"))
    return None


def _check_identity(root: Path, shard: ShardAudit, uuid: str | None, first: ShardAudit) -> Iterable[Fault]:
    if uuid is not None and shard.dataset_uuid != uuid:
        what = f"it belongs to dataset {shard.dataset_uuid}, this is {uuid}; was it copied here?"
        yield Fault(shard.path, what)
    if uuid is not None and shard.path.parent != root / shard.spec.name:
        yield Fault(shard.path, f"it holds stream {shard.spec.name!r}, which belongs in {root / shard.spec.name}")
    if shard.path.stem != f"{shard.number:06d}":
        yield Fault(shard.path, f"it is shard {shard.number} by its attribute; was it copied or renamed?")
    if shard.spec != first.spec:
        yield Fault(shard.path, f"attribute stream_spec: it differs from that of {first.path}")


def _duplicates(stream: Sequence[tuple[Path, NDArray[np.uint64], NDArray[np.int64]]]) -> Iterable[Fault]:
    """Every index of a stream at most once."""
    indices = np.concatenate([part[1] for part in stream])
    shards = np.repeat(np.arange(len(stream)), [len(part[1]) for part in stream])
    numbers = np.concatenate([part[2] for part in stream])
    order = np.argsort(indices, kind="stable")
    for place in (np.flatnonzero(np.diff(indices[order]) == 0) + 1).tolist():
        here, before = int(order[place]), int(order[place - 1])
        what = f"the index is in the dataset already: {stream[shards[before]][0]}, row {int(numbers[before])}"
        yield Fault(stream[shards[here]][0], what, int(numbers[here]), int(indices[here]))


def _missing_shards(paths: Sequence[Path]) -> Iterable[Fault]:
    for folder in sorted({path.parent for path in paths}):
        found = {int(re.sub(r"\D", "", path.stem)) for path in paths if path.parent == folder}
        missing = sorted(set(range(max(found))) - found)
        if missing:
            yield Fault(folder, f"shards {missing} are not here; were they moved away? Their episodes are missing")


if __name__ == "__main__":
    sys.exit(main())
