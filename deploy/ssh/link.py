"""Asking `headrace host` on another machine through the system's ssh, and one sentence for what can go wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from deploy.ssh.orders import ANSWER, Answer, Envelope, Head, Order, own_head
from deploy.ssh.settings import HERE, SshSettings
from protocol.errors import HeadraceError

# For what a host does at once [s], beyond the time to connect.
PATIENCE_S = 60.0
_AT_ONCE = 32
_SSH_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 255, 126, 127
# First in the line, so that they count whatever the user's own configuration says: never a question, no forwarding,
# no background process that would keep our pipes open.
_OPTIONS = (
    "BatchMode=yes", "ControlMaster=no", "ClearAllForwardings=yes", "RequestTTY=no", "RemoteCommand=none",
    "PermitLocalCommand=no", "ServerAliveInterval=15", "ServerAliveCountMax=4",
)  # fmt: skip

A = TypeVar("A")


class HostError(HeadraceError):
    """A host cannot be reached, or cannot do what it is asked; the sentence names it."""


@dataclass(frozen=True)
class Link:
    """host: as the user wrote it, or HERE."""

    host: str
    settings: SshSettings

    def words(self) -> list[str]:
        """The whole command that answers one order."""
        if self.host == HERE:
            return [sys.executable, "-m", "deploy.main", "host"]
        options = [*_OPTIONS, f"ConnectTimeout={self.settings.connect_timeout_s}"]
        words = ["ssh", "-T", "-x", "-a", *(word for option in options for word in ("-o", option))]
        words += ["-p", str(self.settings.port)] if self.settings.port is not None else []
        words += ["-l", self.settings.user] if self.settings.user is not None else []
        words += [word for option in self.settings.options for word in ("-o", option)]
        return [*words, "--", self.host, f"{remote_path(self.settings.headrace)} host"]

    def by_hand(self, command: str) -> str:
        """ssh, or ssh-copy-id, as a user would write it."""
        port = ["-p", str(self.settings.port)] if self.settings.port is not None else []
        user = f"{self.settings.user}@" if self.settings.user is not None else ""
        return shlex.join([command, *port, user + self.host])

    def ask(self, order: Order, kind: type[A], patience_s: float = PATIENCE_S, any_release: bool = False) -> A:
        """Returns its answer. patience_s: for the work there [s]. any_release: not only ours. Raises HostError."""
        data = msgspec.json.encode(Envelope(own_head(), order))
        limit_s = self.settings.connect_timeout_s + patience_s
        environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
        try:
            done = subprocess.run(
                self.words(), input=data, capture_output=True, check=False, timeout=limit_s, env=environment
            )
        except FileNotFoundError as error:
            raise HostError(f"there is no {self.words()[0]} on this machine; install OpenSSH's client") from error
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{self.host}: no answer within {limit_s:.0f} s; is it well?") from error
        said = done.stdout.decode(errors="replace").splitlines()
        answers = [line.removeprefix(ANSWER) for line in said if line.startswith(ANSWER)]
        if not answers:
            raise HostError(sentence_of(self, done.returncode, done.stderr.decode(errors="replace")))
        return self._answer(answers[-1], kind, any_release)

    def _answer(self, text: str, kind: type[A], any_release: bool) -> A:
        try:
            answer = msgspec.json.decode(text, type=Answer)
            self._check_release(answer.head, any_release)
            if answer.error is not None:
                raise HostError(f"{self.host}: {answer.error}")
            return msgspec.json.decode(answer.answer, type=kind)
        except msgspec.MsgspecError as error:
            raise HostError(f"{self.host}: expected an answer of `headrace host`: {error}") from error

    def _check_release(self, there: Head, any_release: bool) -> None:
        here = own_head()
        same = there.orders == here.orders if any_release else there == here
        if not same:
            raise HostError(
                f"{self.host}: {self.settings.headrace} there is release {there.release}, here it is "
                f"{here.release}; install the same release on both"
            )


def headrace_words(link: Link) -> tuple[str, ...]:
    """The command on that host; a `~/` is left to the host."""
    return (sys.executable, "-m", "deploy.main") if link.host == HERE else (link.settings.headrace,)


def remote_path(path: str) -> str:
    """Quoted for any login shell; `~/` stays the home there."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def ask_all(links: Mapping[str, tuple[Link, Order]], kind: type[A], patience_s: float = PATIENCE_S,
            any_release: bool = False) -> dict[str, A | HostError]:  # fmt: skip
    """All at the same time; what one cannot do is its answer."""

    def ask(pair: tuple[Link, Order]) -> A | HostError:
        try:
            return pair[0].ask(pair[1], kind, patience_s, any_release)
        except HostError as error:
            return error

    with ThreadPoolExecutor(min(_AT_ONCE, max(len(links), 1))) as pool:
        return dict(zip(links, pool.map(ask, links.values()), strict=True))


def sentence_of(link: Link, status: int, said: str) -> str:
    """For a command that did not answer. status: of ssh. said: its stderr."""
    host, headrace = link.host, link.settings.headrace
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if status == _SSH_FAILED and host != HERE:
        return _ssh_sentence(link, said, last)
    if status in (_NOT_FOUND, _NOT_EXECUTABLE):
        return (
            f"{host}: there is no {headrace} that can be run ({last}); install Headrace there, or name the command's "
            'path there with [ssh] headrace = "…"'
        )
    if "there is no command 'host'" in said:
        return f"{host}: {headrace} there is an older release than this one; install the same release on both"
    return f"{host}: {headrace} host ended with status {status}: {last}"


def _ssh_sentence(link: Link, said: str, last: str) -> str:
    host, port = link.host, link.settings.port
    known_as = f"[{host}]:{port}" if port else host
    if "IDENTIFICATION HAS CHANGED" in said:
        return (
            f"{host}: its host key is not the one that is known. If that machine was set up anew, `ssh-keygen -R "
            f"{shlex.quote(known_as)}` forgets the old one; otherwise somebody may be between"
        )
    if "Host key verification failed" in said:
        return (
            f"{host}: its host key is not known here; connect once by hand, `{link.by_hand('ssh')}`, and compare the "
            "fingerprint that it shows"
        )
    if "Permission denied" in said or "Too many authentication failures" in said:
        return (
            f"{host}: it takes none of our ssh keys ({last}); put yours there with `{link.by_hand('ssh-copy-id')}`, "
            'or name another one with [ssh] options = ["IdentityFile=…"]. No password is ever asked for'
        )
    if "Could not resolve hostname" in said:
        return f"{host}: no machine of that name is known here ({last}); is it written right in --hosts?"
    return f"{host}: cannot be reached ({last}); is it up, and is [ssh] port right?"
