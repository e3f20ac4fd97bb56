"""The table of a topology that only `headrace submit --hosts` reads, and names of hosts."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.errors import ConfigurationError

Detacher = Literal["systemd-run", "tmux"]
Word = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\Z", max_length=100)]
# In the place of a host's name: the machine where a collection is submitted, without ssh.
HERE = "here"
# One option of ssh_config(5) with its value, printable and in one piece.
Option = Annotated[str, Meta(pattern=r"\A[A-Za-z][A-Za-z0-9]*=[^\x00-\x1f\x7f]+\Z", max_length=400)]
Line = Annotated[str, Meta(pattern=r"\A[^\x00\r\n]*\Z", max_length=4000)]
Text = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", max_length=1000)]
# Names, addresses of both kinds, USER@HOST, and what ssh_config(5) calls a host; a dash first would be an option.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.@:%-]{0,254}")


class SshSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hosts are reached, and what is where on them. What is not said here is as ssh_config(5) has it.

    options: as `ssh -o` takes them. connect_timeout_s: for each connection [s]. headrace: path of the command on the
    hosts; `~/` is the home there. workdir: where programs run, relative to the home there; `headrace/NAME` if it is
    empty. shared: every machine sees the folder where you submit, under the same path; then programs run in it.
    servers: on the first host, or here. detach: what keeps programs running; by default what a host has. setup: shell
    lines before each program, as they are.
    """

    user: Word | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    options: tuple[Option, ...] = ()
    connect_timeout_s: Annotated[int, Meta(ge=1, le=600)] = 10
    headrace: Text = "headrace"
    workdir: Text | None = None
    shared: bool = False
    servers: Literal["first", "here"] = "first"
    detach: Detacher | None = None
    setup: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        if self.shared and self.workdir is not None:
            raise ValueError("[ssh] shared: programs run in the folder where you submit; expected no [ssh] workdir")
        if self.headrace.startswith("-"):
            raise ValueError(f"[ssh] headrace: expected a path, found {self.headrace!r}")


def parse_hosts(text: str) -> tuple[str, ...]:
    """The hosts of `--hosts a,b,c`. Raises ConfigurationError."""
    hosts = tuple(host.strip() for host in text.split(","))
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigurationError(
                f"--hosts {text}: expected names or addresses with commas between them, found {host!r}"
            )
    if HERE in hosts:
        raise ConfigurationError(f"--hosts {text}: {HERE!r} is no host; for servers here: [ssh] servers = {HERE!r}")
    twice = sorted({host for host in hosts if hosts.count(host) > 1})
    if twice:
        raise ConfigurationError(f"--hosts {text}: {twice[0]} is named twice")
    return hosts
