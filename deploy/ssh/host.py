"""`headrace host`: this machine's side of `headrace submit --hosts`. One order on stdin, one answer on stdout.

Whoever can run it is the user: it is reached through their own ssh account, and listens nowhere.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tyro

from deploy.collection_keys import ensure_keys
from deploy.ssh import detach, programs
from deploy.ssh.orders import (
    ANSWER,
    Answer,
    Carried,
    CarriedFile,
    Check,
    Collect,
    Done,
    Envelope,
    Head,
    HostReport,
    Look,
    Order,
    Place,
    Seen,
    Start,
    Stop,
    Stopped,
    own_head,
)
from deploy.ssh.programs import Collection
from deploy.topology import absolute
from protocol.announcement import AnnouncementMissingError, read_announcement
from protocol.errors import ConfigurationError, HeadraceError

_LOOK_S = 0.1
# Of a file that is carried: an announcement, or a key.
_MAX_FILE_BYTES = 64 << 10
_SECRET, _FOLDER = 0o600, 0o700


@dataclass(frozen=True)
class HostFlags:
    """Answer one order of `headrace submit --hosts`, which runs this over ssh; nothing for people."""


class _HeadOnly(msgspec.Struct):
    head: Head


def main(argv: Sequence[str] | None = None) -> int:
    """Answer one order; what cannot be done is told in the answer."""
    tyro.cli(HostFlags, prog="headrace host", args=argv)
    sys.stdout.write(ANSWER + msgspec.json.encode(answer_to(sys.stdin.buffer.read())).decode() + "\n")
    return 0


def answer_to(data: bytes) -> Answer:
    """Also to what is no order, or one of another version."""
    head = own_head()
    try:
        asked = msgspec.json.decode(data, type=_HeadOnly).head
        if asked.orders != head.orders:
            return Answer(head, error=f"expected orders of version {head.orders}, found {asked.orders}")
        order = msgspec.json.decode(data, type=Envelope).order
        return Answer(head, msgspec.Raw(msgspec.json.encode(_do(order))))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Answer(head, error=f"expected an order of `headrace submit`: {error}")
    except HeadraceError as error:
        return Answer(head, error=str(error))
    except OSError as error:
        return Answer(head, error=f"{error.filename or 'a file'}: {error.strerror}")


def _do(order: Order) -> HostReport | Done | Carried | Seen | Stopped:
    where = _where(order.place)
    match order:
        case Check():
            return _check(order, where)
        case Start():
            return _start(order, where)
        case Collect():
            return _collect(order, where)
        case Look():
            return _look(order, where)
        case Stop():
            return programs.stop(where, order.programs, order.limit_s, order.now)


def _where(place: Place) -> Collection:
    workdir = Path.home() / place.workdir
    return Collection(workdir / place.folder, workdir)


def _check(order: Check, where: Collection) -> HostReport:
    if order.seen is not None and not (where.workdir / order.seen).exists():
        raise ConfigurationError(
            f"{where.folder} is not the same folder here; without a file system that all machines share, leave out "
            "[ssh] shared"
        )
    there = where.folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"cannot write to {there}, expected a folder of yours for {where.folder}; choose others with [ssh] workdir "
            "and [sink] data"
        )
    cores = len(os.sched_getaffinity(0))
    return HostReport(str(where.workdir), cores, detach.choose(order.detach), tuple(where.live()))


def _look(order: Look, where: Collection) -> Seen:
    states = tuple(programs.states_of(where, order.programs, order.tail))
    if order.progress_of is None:
        return Seen(states)
    # Loaded for this only: arrays and HDF5 take longer to load than all the rest takes.
    progress = importlib.import_module("deploy.progress")
    found = progress.progress_of(absolute(order.progress_of, where.workdir))
    return Seen(states, msgspec.Raw(msgspec.json.encode(found)))


def _start(order: Start, where: Collection) -> Done:
    for folder in (where.workdir, where.folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path in order.forget:
        (where.workdir / path).unlink(missing_ok=True)
    for file in order.files:
        _write_secret(where.workdir / file.path, file.data)
    if order.keys is not None:
        ensure_keys(msgspec.structs.replace(order.keys, keys=str(where.workdir / order.keys.keys)))
    headrace = _expanded(order.headrace)
    for program in order.programs:
        words = programs.write_script(where, program, headrace, order.setup)
        detach.start(order.detach, where.folder, program.name, words)
    programs.wait_begun(where, [program.name for program in order.programs])
    return Done()


def _expanded(headrace: tuple[str, ...]) -> tuple[str, ...]:
    """`~/` is the home here; systemd would look for a bare name in other places than this shell."""
    first = headrace[0]
    found = str(Path.home() / first[2:]) if first.startswith("~/") else shutil.which(first) or first
    return (found, *headrace[1:])


def _collect(order: Collect, where: Collection) -> Carried:
    deadline = time.monotonic() + order.limit_s
    while missing := [path for path in order.files if not _announced(where.workdir / path)]:
        for state in programs.states_of(where, order.servers, 12):
            if state.state != "running":
                said = "\n".join(state.tail) or "it said nothing"
                raise ConfigurationError(f"{state.name} ended at once; its log {where.log(state.name)} ends:\n{said}")
        if time.monotonic() >= deadline:
            logs = where.log("*").parent
            raise ConfigurationError(f"no {missing[0]} within {order.limit_s:.0f} s; logs are in {logs}")
        time.sleep(_LOOK_S)
    return Carried(tuple(_read(path, where) for path in (*order.files, *order.also)))


def _announced(path: Path) -> bool:
    try:
        return read_announcement(path).stopped is None
    except AnnouncementMissingError:
        return False


def _read(path: str, where: Collection) -> CarriedFile:
    with (where.workdir / path).open("rb") as file:
        return CarriedFile(path, file.read(_MAX_FILE_BYTES))


def _write_secret(path: Path, data: bytes) -> None:
    """Whole or not at all, for nobody else's eyes, in place of an earlier one."""
    path.parent.mkdir(_FOLDER, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _SECRET)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


if __name__ == "__main__":
    sys.exit(main())
