"""Keys on disk: whom a sink lets in, and how both sides know each other. Read here, written by `headrace keys`.

    KEYS/sink.key             the sink's pair; secret
    KEYS/allowed/NAME.pub     the public key of a producer that may come in
    KEYS/clients/NAME.key     what a producer's machine needs, to be carried there; secret

Keys are ZeroMQ's own: Curve25519, 32 bytes, written as 40 characters of Z85.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from protocol.errors import ConfigurationError

SINK_KEY = "sink.key"
ALLOWED = "allowed"
CLIENTS = "clients"
PUBLIC_SUFFIX = ".pub"
KEY_CHARACTERS = 40
MAX_NAME = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# RFC 32 of ZeroMQ: five characters are four bytes, the most significant first.
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAX_FILE_BYTES = 4096


class SinkKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sink's pair."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"SinkKey({self.public!r})"


class ClientKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A producer's pair, and the public key of its sink. name: that under which the sink's operator allowed it."""

    name: str
    public: str
    secret: str
    sink: str

    def __repr__(self) -> str:
        return f"ClientKey({self.name!r}, {self.public!r})"


Key = TypeVar("Key", SinkKey, ClientKey)


def read_sink_key(keys: Path) -> SinkKey:
    """The pair of a keys directory. Raises ConfigurationError."""
    path = keys / SINK_KEY
    if not path.exists():
        raise ConfigurationError(f"{keys} has no {SINK_KEY}; make one with: headrace keys new {keys}")
    return _read(path, SinkKey)


def read_client_key(path: Path) -> ClientKey:
    """The file that a producer was given. Raises ConfigurationError."""
    if not path.is_file():
        raise ConfigurationError(
            f"{path} is no key file; expected a NAME.key that `headrace keys new KEYS --client NAME` made"
        )
    key = _read(path, ClientKey)
    check_name(key.name)
    return key


def read_allowed(keys: Path) -> tuple[dict[str, str], list[str]]:
    """Public key → name of all that are allowed, and a sentence for each file that does not count.

    Raises ConfigurationError if the folder cannot be read, or is not safe: then nobody is allowed.
    """
    folder = keys / ALLOWED
    allowed: dict[str, str] = {}
    faults: list[str] = []
    try:
        _check_not_writable(folder, os.stat(folder))
        paths = sorted(path for path in folder.iterdir() if path.suffix == PUBLIC_SUFFIX)
    except OSError as error:
        raise ConfigurationError(f"cannot read {folder}: {error.strerror}; is it a keys directory?") from error
    for path in paths:
        try:
            check_name(path.stem)
            with path.open("rb") as file:
                _check_not_writable(path, os.fstat(file.fileno()))
                text = file.read(_MAX_FILE_BYTES).decode("ascii", "replace").strip()
            check_key(text, str(path))
        except FileNotFoundError:
            continue  # revoked this moment
        except OSError as error:
            faults.append(f"{path} does not count: {error.strerror}")
        except ConfigurationError as error:
            faults.append(f"{path} does not count: {error}")
        else:
            allowed.setdefault(text, path.stem)
    return allowed, faults


def check_name(name: str) -> None:
    """Raise ConfigurationError unless this can name a client, and a file."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"{name!r} cannot name a key: expected 1 to {MAX_NAME} of A-Z a-z 0-9 _ . - and no mark at the beginning"
        )


def check_key(text: str, where: str) -> None:
    """Raise ConfigurationError unless this is a key in Z85; the text itself is not shown, it may be a secret."""
    if len(text) != KEY_CHARACTERS:
        raise ConfigurationError(f"{where}: expected a key of {KEY_CHARACTERS} characters, found {len(text)}")
    try:
        digits = [_Z85.index(character) for character in text]
    except ValueError as error:
        raise ConfigurationError(f"{where}: expected a key in Z85, found a character that Z85 does not have") from error
    for first in range(0, KEY_CHARACTERS, 5):
        number = 0
        for digit in digits[first : first + 5]:
            number = number * len(_Z85) + digit
        if number >= 1 << 32:
            raise ConfigurationError(f"{where}: no key: characters {first} to {first + 4} are no Z85 of four bytes")


def _read(path: Path, kind: type[Key]) -> Key:
    try:
        with path.open("rb") as file:
            _check_secret(path, os.fstat(file.fileno()))
            data = file.read(_MAX_FILE_BYTES)
        key = msgspec.json.decode(data, type=kind)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected a file made by `headrace keys new`: {error}") from error
    for field in ("public", "secret", "sink"):
        if hasattr(key, field):
            check_key(getattr(key, field), f"{path}, {field}")
    return key


def _check_secret(path: Path, found: os.stat_result) -> None:
    """Ours: for nobody else. root's, as it is in a container: our group may read it."""
    forbidden = 0o037 if found.st_uid == 0 and os.geteuid() != 0 else 0o077
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        raise ConfigurationError(
            f"{path} holds a secret key and others can reach it (mode {mode:04o}); if nobody has: chmod 600 {path}"
        )


def _check_not_writable(path: Path, found: os.stat_result) -> None:
    if found.st_mode & 0o002:
        raise ConfigurationError(f"{path} can be written by everyone, who could allow themselves: chmod o-w {path}")
