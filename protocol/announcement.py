"""How a server says where it is: a JSON file that clients on other machines read on a shared file system.

Whoever can write the file can send clients elsewhere. So nothing in it is believed that has not the form of SPEC.md,
section 8, and a client with a key takes no public key from it that its key file does not name.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.endpoint import is_loopback, parse_address
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey, check_key

FORMAT: Literal["headrace-announcement"] = "headrace-announcement"
FORMAT_VERSION = 1
MAX_BYTES = 16 << 10
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})"
_ENDPOINT = re.compile(rf"tcp://(?:{_HOST}|\[[0-9A-Fa-f:.]{{2,45}}\]):([1-9][0-9]{{0,4}})|ipc://[!-~]{{1,100}}")

Role = Literal["sink", "inference"]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]


class AnnouncementMissingError(ConfigurationError):
    """There is no such file (yet)."""


class Announcement(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One life of a server. generation: counts these lives, from 1. endpoint: for clients, never a wildcard.

    http: HOST:PORT on the server's own machine. public_key: of its keys directory; None if it has no keys.
    protocol: version of the messages that it speaks. version: of the release. started, stopped: UTC, ISO 8601.
    """

    format: Literal["headrace-announcement"]
    format_version: Annotated[int, Meta(ge=1)]
    role: Role
    endpoint: Annotated[str, Meta(max_length=300)]
    http: Annotated[str, Meta(max_length=300)] | None
    public_key: str | None
    generation: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,255}$")]
    pid: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+-]{1,64}$")]
    protocol: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    started: Time
    stopped: Time | None = None


class _Format(msgspec.Struct, frozen=True):
    format: str = ""
    format_version: int = 0


def read_announcement(path: Path) -> Announcement:
    """Read and check a file. Raises AnnouncementMissingError, ConfigurationError."""
    data = _read(path)
    try:
        head = msgspec.json.decode(data, type=_Format)
        if head.format != FORMAT:
            raise ConfigurationError(f"{path} is no announcement; expected a file of `headrace … --announce {path}`")
        if head.format_version != FORMAT_VERSION:
            raise ConfigurationError(
                f"expected format_version {FORMAT_VERSION}, found {head.format_version}; install the same release"
            )
        found = msgspec.json.decode(data, type=Announcement)
        check_announcement(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no announcement, or not a whole one: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    return found


def check_announcement(found: Announcement) -> None:
    """What the types do not say. Raises ConfigurationError."""
    match = _ENDPOINT.fullmatch(found.endpoint)
    if match is None or int(match[1] or 1) > 65535:
        raise ConfigurationError(f"endpoint: expected tcp://HOST:PORT or ipc://PATH, found {found.endpoint!r}")
    if _is_wildcard(found.endpoint):
        raise ConfigurationError(f"endpoint: nobody can connect to {found.endpoint}; start it with --advertise HOST")
    if found.http is not None:
        parse_address(found.http)
    if found.public_key is not None:
        check_key(found.public_key, "public_key")
    elif not is_loopback(found.endpoint):
        raise ConfigurationError(
            f"endpoint: {found.endpoint} can be reached from other machines and has no public_key; expected a server "
            "with --keys, or one on loopback"
        )


def check_server(found: Announcement, role: Role, protocol: int, key: ClientKey | None) -> None:
    """Whether a client of this role and version, with this key, may go there. Raises ConfigurationError."""
    name = name_of(found.role)
    if found.role != role:
        raise ConfigurationError(f"expected where the {name_of(role)} is, found where the {name} is")
    if found.protocol != protocol:
        raise ConfigurationError(
            f"the {name} speaks version {found.protocol} (release {found.version}), this client version {protocol}; "
            "install the same release"
        )
    public = found.public_key
    if key is None and public is not None:
        raise ConfigurationError(
            f"the {name} at {found.endpoint} wants a key, and we have none. Have one made there, `headrace keys new "
            "KEYS --client NAME`, carry it here, and name it with --key FILE or HEADRACE_KEY=FILE"
        )
    if key is not None and public != key.sink:
        has = "no keys" if public is None else f"the public key {shlex.quote(public)}"
        raise ConfigurationError(
            f"the {name} at {found.endpoint} has {has}, and our key {key.name!r} is for one with the public key "
            f"{shlex.quote(key.sink)}; nothing is sent there. If it has new keys, have a new key file made"
        )


def _read(path: Path) -> bytes:
    try:
        # Not to wait for a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise AnnouncementMissingError(f"there is no {path} yet") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read the announcement {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigurationError(f"{path} is no announcement: expected a plain file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the announcement {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise ConfigurationError(f"{path} is no announcement: expected at most {MAX_BYTES} bytes")
    return data


def plain_host(name: str) -> str:
    """A machine's name for itself, as it stands in the field `host`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:200] or "unknown"


def is_wildcard(host: str) -> bool:
    """A host that a server can bind to and no client connect to."""
    return host.strip("[]") in ("*", "0.0.0.0", "::", "0:0:0:0:0:0:0:0")


def _is_wildcard(endpoint: str) -> bool:
    return endpoint.startswith("tcp://") and is_wildcard(endpoint.removeprefix("tcp://").rpartition(":")[0])


def name_of(role: Role) -> str:
    """For people."""
    return "sink" if role == "sink" else "inference server"
