"""Writes where a server is into a file for clients (`protocol/announcement.py`): whole, and replaced by rename."""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from protocol.announcement import (
    FORMAT,
    FORMAT_VERSION,
    Announcement,
    AnnouncementMissingError,
    Role,
    check_announcement,
    is_wildcard,
    plain_host,
    read_announcement,
)
from protocol.errors import ConfigurationError
from serving.endpoint import check_endpoint

log = logging.getLogger("headrace.daemon")

# An address of documentation (RFC 5737). Nothing is sent there: the kernel is asked which way it would go.
_OUTWARD = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Announce:
    """What a user asks for. file: where to write. advertise: host in place of the one that is bound, or None."""

    file: Path
    advertise: str | None = None


def announce_of(file: Path | None, advertise: str | None) -> Announce | None:
    """From --announce and --advertise. Raises ConfigurationError for the second without the first."""
    if file is None and advertise is not None:
        raise ConfigurationError(f"--advertise {advertise} goes with --announce FILE, where it is written")
    return None if file is None else Announce(file, advertise)


class Announcer:
    """Of one life of one server."""

    def __init__(self, asked: Announce, role: Role, bind: str, protocol: int, public_key: str | None) -> None:
        """bind: what is going to be bound. public_key: if it has keys. Raises ConfigurationError."""
        self._file, self._role, self._protocol, self._public_key = asked.file, role, protocol, public_key
        if not asked.file.parent.is_dir():
            raise ConfigurationError(f"--announce {asked.file}: {asked.file.parent} is no directory; make it first")
        self._host = _host_for_others(bind, asked.advertise)
        if self._host is not None:
            check_endpoint(f"tcp://{self._host}:1", public_key is not None, f"reach it as {self._host}")
        self._said: Announcement | None = None

    def ready(self, endpoint: str, http: str | None) -> None:
        """Clients may come. endpoint: as it was bound. Raises ConfigurationError if the file cannot be written."""
        if self._host is not None:
            endpoint = f"tcp://{self._host}:{endpoint.rpartition(':')[2]}"
        said = Announcement(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            role=self._role,
            endpoint=endpoint,
            http=http,
            public_key=self._public_key,
            generation=self._generation_before() + 1,
            host=plain_host(socket.gethostname()),
            pid=os.getpid(),
            version=_release(),
            protocol=self._protocol,
            started=_now(),
        )
        check_announcement(said)
        self._write(said)
        self._said = said
        log.info("announced in %s: %s, generation %d", self._file, endpoint, said.generation)

    def stopped(self) -> None:
        """A clean end. What another server wrote meanwhile is left alone. What cannot be written is a warning."""
        said, self._said = self._said, None
        if said is None:
            return
        try:
            if read_announcement(self._file) == said:
                self._write(msgspec.structs.replace(said, stopped=_now()))
        except AnnouncementMissingError:
            log.info("%s was removed", self._file)
        except ConfigurationError as error:
            log.warning("%s", error)

    def _generation_before(self) -> int:
        try:
            return read_announcement(self._file).generation
        except AnnouncementMissingError:
            return 0
        except ConfigurationError as error:
            log.warning("%s; it is replaced", error)
            return 0

    def _write(self, said: Announcement) -> None:
        draft = self._file.with_name(f".{self._file.name}.{plain_host(socket.gethostname())}.{os.getpid()}.draft")
        try:
            try:
                with draft.open("wb") as file:
                    file.write(msgspec.json.format(msgspec.json.encode(said)) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self._file)
            finally:
                draft.unlink(missing_ok=True)
            _sync_folder(self._file.parent)
        except OSError as error:
            raise ConfigurationError(f"cannot write --announce {self._file}: {error.strerror}") from error


def _host_for_others(bind: str, advertise: str | None) -> str | None:
    """The host to announce in place of the bound one; None: that one. Raises ConfigurationError."""
    if advertise is not None:
        if not bind.startswith("tcp://"):
            raise ConfigurationError(f"--advertise {advertise}: expected with --bind tcp://…, found {bind}")
        if is_wildcard(advertise) or not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?", advertise):
            raise ConfigurationError(f"--advertise {advertise}: expected a host name or an address, without a port")
        return _bracketed(advertise)
    host = bind.removeprefix("tcp://").rpartition(":")[0]
    if not bind.startswith("tcp://") or not is_wildcard(host):
        return None
    name = socket.getfqdn()
    if _leads_here_from_elsewhere(name):
        return name
    address = _outward_address()
    if address is None:
        raise ConfigurationError(
            f"--announce with --bind {bind}: cannot tell under what name other machines reach this one; give "
            "--advertise HOST"
        )
    return _bracketed(address)


def _leads_here_from_elsewhere(name: str) -> bool:
    """The name has an address that is not loopback: Debian gives a machine's name 127.0.1.1."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return any(not address.startswith("127.") and address != "::1" for address in found)


def _outward_address() -> str | None:
    """Of the interface that the kernel would send by; None without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_OUTWARD)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _bracketed(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _release() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
