"""Programs of a collection on this host: their scripts, which processes they are, how they are, and their end.

A program is known by a mark in the environment of its processes, not by a number that the kernel gives to others later.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.ssh.orders import Program, ProgramState, State, Stopped
from protocol.errors import ConfigurationError

_MARK = "HEADRACE_PROGRAM"
_LOOK_S = 0.1
_BEGIN_LIMIT_S = 20.0
_TAIL_BYTES = 16 << 10
# Exit statuses of programs that were asked to stop: their own, and as a shell tells SIGTERM.
_ASKED = (0, 130, 128 + signal.SIGTERM)
_SCRIPT = """\
#!/bin/sh
# 9: tmux ends a session whose terminal nobody has open any more.
exec 9<&0 </dev/null >>{log} 2>&1
ended() {{ echo "$1" >{exit}.draft && mv -- {exit}.draft {exit}; exit "$1"; }}
cd -- {workdir} || ended 1
unset HEADRACE_KEY
{exports}
{setup}
{prepare}
set -- {words}
{resume}
sh -c 'echo "$$" >"$0" && exec "$@"' {pid} "$@" 9<&-
ended "$?"
"""


@dataclass(frozen=True)
class Collection:
    """Its folder on this host, and where its programs run; both absolute."""

    folder: Path
    workdir: Path

    def log(self, name: str) -> Path:
        """All that a program said."""
        return self.folder / "logs" / f"{name}.log"

    def run_file(self, name: str, suffix: str) -> Path:
        """sh: what runs it. pid: of the program. exit: its status when it has ended. asked: it was asked to stop."""
        return self.folder / "run" / f"{name}.{suffix}"

    def mark(self, name: str) -> str:
        """In the environment of all processes of a program."""
        return f"{_MARK}={self.run_file(name, 'sh')}"

    def live(self) -> list[str]:
        """Names of all programs that run."""
        head = f"{_MARK}={self.folder / 'run'}/".encode()
        marks = [mark for mark in _marks().values() if mark.startswith(head)]
        return sorted({mark[len(head) :].decode().removesuffix(".sh") for mark in marks})


def write_script(where: Collection, program: Program, headrace: Sequence[str], setup: Sequence[str]) -> list[str]:
    """Write what runs a program, and forget its last run; returns the words that start it."""
    script = where.run_file(program.name, "sh")
    for folder in (script.parent, where.log(program.name).parent):
        folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("pid", "exit", "asked"):
        where.run_file(program.name, suffix).unlink(missing_ok=True)
    script.write_text(script_of(where, program, headrace, setup))
    # systemd would give it another PATH than this shell has.
    return ["/usr/bin/env", where.mark(program.name), f"PATH={os.environ.get('PATH', os.defpath)}", "sh", str(script)]


def script_of(where: Collection, program: Program, headrace: Sequence[str], setup: Sequence[str]) -> str:
    """The script; all that is not ours is quoted, but for the lines of `setup`."""
    words = list(program.words) if program.own else [*headrace, *program.words]
    prepare = ""
    if program.prepare is not None:
        before, unless = program.prepare
        prepare = f"[ -e {shlex.quote(unless)} ] || {shlex.join([*headrace, *before])} || ended 1"
    return _SCRIPT.format(
        log=shlex.quote(str(where.log(program.name))),
        workdir=shlex.quote(str(where.workdir)),
        exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in program.environment.items()),
        setup="\n".join(setup),
        exit=shlex.quote(str(where.run_file(program.name, "exit"))),
        pid=shlex.quote(str(where.run_file(program.name, "pid"))),
        prepare=prepare,
        words=shlex.join([*(["nice", "-n", str(program.nice)] if program.nice else []), *words]),
        resume=f'[ ! -e {shlex.quote(program.resumes)} ] || set -- "$@" --resume' if program.resumes else "",
    )


def wait_begun(where: Collection, names: Sequence[str]) -> None:
    """What keeps programs running has returned; until theirs are there to be seen. Raises ConfigurationError."""
    deadline = time.monotonic() + _BEGIN_LIMIT_S
    while lost := [state.name for state in states_of(where, names, 0) if state.state == "lost"]:
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{lost[0]} did not begin within {_BEGIN_LIMIT_S:.0f} s")
        time.sleep(_LOOK_S)


def states_of(where: Collection, names: Sequence[str], tail: int) -> list[ProgramState]:
    """How they are. tail: lines of each log."""
    # Processes first: a script writes its program's status before it ends itself.
    marks = _marks()
    return [_state_of(where, name, tail, marks) for name in names]


def _state_of(where: Collection, name: str, tail: int, marks: Mapping[int, bytes]) -> ProgramState:
    mark = where.mark(name).encode()
    lines = tail_of(where.log(name), tail)
    if mark in marks.values():
        pid = _number(where.run_file(name, "pid"))
        return ProgramState(name, "running", pid if marks.get(pid or 0) == mark else None, None, lines)
    status = _number(where.run_file(name, "exit"))
    return ProgramState(name, _end_of(where, name, status), None, status, lines)


def _end_of(where: Collection, name: str, status: int | None) -> State:
    if not where.run_file(name, "sh").exists():
        return "never ran"
    if where.run_file(name, "asked").exists() and (status is None or status in _ASKED):
        return "stopped"
    if status is None:
        return "lost"
    return "failed" if status else "ended"


def stop(where: Collection, names: Sequence[str], limit_s: float, now: bool) -> Stopped:
    """SIGTERM for each program, once; or SIGKILL for all its processes. Returns when none is left."""
    wanted = {where.mark(name).encode(): name for name in names}
    asked = sorted({wanted[mark] for mark in _marks().values() if mark in wanted})
    for name in asked:
        where.run_file(name, "asked").touch()
    deadline = time.monotonic() + (0 if now else limit_s)
    told: set[str] = set()
    killed: set[str] = set()
    while left := {pid: wanted[mark] for pid, mark in _marks().items() if mark in wanted}:
        if time.monotonic() >= deadline:
            killed |= set(left.values())
            _signal(left, signal.SIGKILL)
        else:
            for name in set(left.values()) - told:
                pid = _number(where.run_file(name, "pid"))
                if pid in left and left[pid] == name:  # a second one would end it at once
                    _signal([pid], signal.SIGTERM)
                    told.add(name)
        time.sleep(_LOOK_S)
    return Stopped(tuple(asked), () if now else tuple(sorted(killed)))


def tail_of(log: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a file that may be long; none if it is not there."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            return tuple(file.read().decode(errors="replace").splitlines()[-lines:]) if lines else ()
    except FileNotFoundError:
        return ()


def _signal(pids: Sequence[int] | Mapping[int, str], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):  # not there, or not whole yet
        return None


def _marks() -> dict[int, bytes]:
    """The marks of this user's processes."""
    found = {}
    head = f"{_MARK}=".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):  # it has ended, or is not ours
            for variable in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                if variable.startswith(head):
                    found[int(entry)] = variable
    return found
