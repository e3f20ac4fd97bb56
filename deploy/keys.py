"""Make the keys of a sink and of its producers, allow and revoke them."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, subcommand

from deploy import key_files
from protocol.errors import ConfigurationError
from protocol.keys import SINK_KEY, read_allowed, read_sink_key


@dataclass(frozen=True)
class NewFlags:
    """Make the keys of a sink, or with --client those of a producer."""

    keys: Positional[Path]
    """Keys directory."""
    client: str | None = None
    """Make a pair for this producer, allow it, and write the one file that its machine needs."""
    sink: str | None = None
    """With --client, on the producer's own machine: public key of its sink. Then the secret never travels, and the
    sink's operator has to allow the public key."""


@dataclass(frozen=True)
class AllowFlags:
    """Let a public key in; counts from its next connection on, without a restart of the sink."""

    keys: Positional[Path]
    """Keys directory of the sink."""
    name: Positional[str]
    """Name for this key."""
    public: Positional[str]
    """Public key, 40 characters; quote it for the shell."""


@dataclass(frozen=True)
class ListFlags:
    """List the sink's public key and those that are allowed; exit status 1 if a file among them does not count."""

    keys: Positional[Path]
    """Keys directory of the sink."""
    json: bool = False
    """One JSON object."""


@dataclass(frozen=True)
class RevokeFlags:
    """Let a key in no more, without a restart of the sink: neither its next connection nor the one it has."""

    keys: Positional[Path]
    """Keys directory of the sink."""
    name: Positional[str]
    """Its name, as listed."""


Flags = (
    Annotated[NewFlags, subcommand("new")]
    | Annotated[AllowFlags, subcommand("allow")]
    | Annotated[ListFlags, subcommand("list")]
    | Annotated[RevokeFlags, subcommand("revoke")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of it. Raises ConfigurationError."""
    flags = tyro.cli(Flags, prog="headrace keys", args=argv, description=__doc__)
    match flags:
        case NewFlags(client=None):
            return _new_sink(flags)
        case NewFlags():
            return _new_client(flags)
        case AllowFlags():
            return _allow(flags)
        case ListFlags():
            return _list(flags)
        case RevokeFlags():
            return _revoke(flags)
    raise AssertionError(flags)


def _new_sink(flags: NewFlags) -> int:
    if flags.sink is not None:
        raise ConfigurationError("--sink goes with --client NAME; without, the sink's own keys are made")
    if (flags.keys / SINK_KEY).exists():
        raise ConfigurationError(
            f"{flags.keys / SINK_KEY} is there already; a new one would shut out every producer. "
            f"For one more producer: headrace keys new {flags.keys} --client NAME"
        )
    made = key_files.add_sink(flags.keys)
    _say(
        f"made {flags.keys / SINK_KEY}; its public key is {made.public}",
        f"next:  headrace keys new {flags.keys} --client NAME     for each producer's machine",
        f"then:  headrace sink --keys {flags.keys} --bind tcp://0.0.0.0:5555 --data …",
    )
    return 0


def _new_client(flags: NewFlags) -> int:
    name = str(flags.client)
    path = key_files.client_path(flags.keys, name)
    if path.exists():
        raise ConfigurationError(f"{path} is there already; choose another name, or remove the file first")
    if flags.sink is not None:
        made = key_files.add_client(flags.keys, name, flags.sink)
        _say(f"made {path}; for the sink's operator:", _allow_command("KEYS", name, made.public))
        return 0
    sink = read_sink_key(flags.keys).public
    if name in read_allowed(flags.keys)[0].values():
        raise ConfigurationError(
            f"{flags.keys} allows another key as {name!r}; choose another name, or revoke it first"
        )
    made = key_files.add_client(flags.keys, name, sink)
    key_files.allow(flags.keys, name, made.public)
    _say(
        f"made {path}, and allowed it; whoever has this file can write to the sink",
        f"carry it to the producer's machine, then: headrace produce robosuite --key {path.name} --sink tcp://HOST:5555",
    )
    return 0


def _allow(flags: AllowFlags) -> int:
    read_sink_key(flags.keys)  # or this is no keys directory
    key_files.allow(flags.keys, flags.name, flags.public)
    _say(f"allowed {flags.name}, from its next connection on")
    return 0


def _list(flags: ListFlags) -> int:
    sink = read_sink_key(flags.keys).public
    allowed, faults = read_allowed(flags.keys)
    rows = [(name, public, key_files.allowed_since(flags.keys, name)) for public, name in allowed.items()]
    rows.sort()
    for fault in faults:
        sys.stderr.write(f"headrace keys list: {fault}\n")
    if flags.json:
        clients = [{"name": name, "public": public, "allowed_s": since} for name, public, since in rows]
        _say(json.dumps({"sink": sink, "clients": clients}, indent=1))
    else:
        width = max([len(name) for name, _, _ in rows] + [len("(sink)")])
        _say(f"{'(sink)':<{width}}  {sink}")
        for name, public, since in rows:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
            _say(f"{name:<{width}}  {public}  since {when}")
        if not rows:
            _say(f"nobody is allowed yet: headrace keys new {flags.keys} --client NAME")
    return 1 if faults else 0


def _revoke(flags: RevokeFlags) -> int:
    key_files.revoke(flags.keys, flags.name)
    _say(f"revoked {flags.name}; a running sink lets it in no more and takes nothing more from it")
    return 0


def _allow_command(keys: str, name: str, public: str) -> str:
    return f"headrace keys allow {keys} {name} {shlex.quote(public)}"


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
