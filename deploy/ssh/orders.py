"""What is asked of `headrace host` on its stdin and what it answers on stdout: one JSON object each."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import msgspec

from deploy.ssh.settings import Detacher
from deploy.topology import Security, Topology

# Of this file; a host with another one is told apart before anything else of an order is read.
ORDERS_VERSION = 1
# Before the answer: a login shell may write to stdout too.
ANSWER = "headrace-host: "
State = Literal["running", "ended", "failed", "stopped", "lost", "never ran"]


class Place(msgspec.Struct, frozen=True):
    """workdir: where programs run, relative to the home. folder: of the collection, relative to `workdir`."""

    workdir: str
    folder: str


class Program(msgspec.Struct, frozen=True):
    """One program of a host. words: after `headrace`, or all of the user's own program.

    environment: what it gets besides. prepare: words after `headrace` that run before, unless the path is there.
    resumes: with this file `--resume` is added. nice: as in nice(1).
    """

    name: str
    words: tuple[str, ...]
    own: bool = False
    environment: dict[str, str] = {}
    prepare: tuple[tuple[str, ...], str] | None = None
    resumes: str | None = None
    nice: int = 0


class CarriedFile(msgspec.Struct, frozen=True):
    """path: relative to the host's workdir."""

    path: str
    data: bytes

    def __repr__(self) -> str:
        return f"CarriedFile({self.path!r})"  # it may be a key


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Could programs run here? seen: a file that is there if the folder is shared. Nothing is changed."""

    place: Place
    detach: Detacher | None = None
    seen: str | None = None


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Write `files`, make `keys`, remove `forget`, start the programs. headrace: the command's words on that host."""

    place: Place
    headrace: tuple[str, ...]
    detach: Detacher
    setup: tuple[str, ...] = ()
    programs: tuple[Program, ...] = ()
    files: tuple[CarriedFile, ...] = ()
    forget: tuple[str, ...] = ()
    keys: Security | None = None


class Collect(msgspec.Struct, frozen=True, tag="collect"):
    """Wait for the files that servers write, while these run, and read them and `also`. limit_s [s]."""

    place: Place
    servers: tuple[str, ...]
    files: tuple[str, ...]
    also: tuple[str, ...]
    limit_s: float


class Look(msgspec.Struct, frozen=True, tag="look"):
    """How programs are. progress_of: on the sink's host, how far the collection is. tail: lines of each log."""

    place: Place
    programs: tuple[str, ...]
    progress_of: Topology | None = None
    tail: int = 3


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """SIGTERM once, or with `now` SIGKILL, and wait; what still runs after `limit_s` [s] is killed."""

    place: Place
    programs: tuple[str, ...]
    limit_s: float
    now: bool = False


Order = Check | Start | Collect | Look | Stop


class HostReport(msgspec.Struct, frozen=True):
    """workdir: absolute. cores: that may be used. live: programs of this collection that run."""

    workdir: str
    cores: int
    detach: Detacher
    live: tuple[str, ...]


class ProgramState(msgspec.Struct, frozen=True):
    """pid: of one that runs. exit_status: of one that has ended, as a shell tells it. tail: the end of its log."""

    name: str
    state: State
    pid: int | None = None
    exit_status: int | None = None
    tail: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """Of `Look`. progress: a `deploy.progress.Progress`, or null."""

    programs: tuple[ProgramState, ...]
    progress: msgspec.Raw = msgspec.Raw(b"null")


class Stopped(msgspec.Struct, frozen=True):
    """asked: that ran. killed: of these, that did not end in time."""

    asked: tuple[str, ...]
    killed: tuple[str, ...]


class Carried(msgspec.Struct, frozen=True):
    """Of `Collect`."""

    files: tuple[CarriedFile, ...]


class Done(msgspec.Struct, frozen=True):
    """Of `Start`."""


class Head(msgspec.Struct, frozen=True):
    """Of an order or an answer, read before the rest."""

    orders: int
    release: str


class Envelope(msgspec.Struct, frozen=True):
    """An order with its head."""

    head: Head
    order: Order


class Answer(msgspec.Struct, frozen=True):
    """error: a sentence without the host; otherwise `answer` is what the order asks for."""

    head: Head
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


def own_head() -> Head:
    """Of this installation."""
    return Head(ORDERS_VERSION, release())


def release() -> str:
    """The version of the installed package."""
    try:
        return version("headrace")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
