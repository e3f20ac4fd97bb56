"""Writing keys: each file whole or not at all, and none in place of another."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import zmq

from protocol.errors import ConfigurationError
from protocol.keys import (
    ALLOWED,
    CLIENTS,
    PUBLIC_SUFFIX,
    SINK_KEY,
    ClientKey,
    SinkKey,
    check_key,
    check_name,
    read_allowed,
)

_SECRET, _PUBLIC, _FOLDER = 0o600, 0o644, 0o700


def new_pair() -> tuple[str, str]:
    """(public, secret). The public key does not begin with a dash, which a command line would take for a flag."""
    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if not public.startswith("-"):
            return public, secret


def add_sink(keys: Path) -> SinkKey:
    """Make a keys directory. Raises ConfigurationError."""
    key = SinkKey(*new_pair())
    for folder in (keys, keys / ALLOWED, keys / CLIENTS):
        _make_folder(folder)
    _write_new(keys / SINK_KEY, _json(key), _SECRET)
    return key


def client_path(keys: Path, name: str) -> Path:
    """The file that is carried to the producer's machine."""
    check_name(name)
    return keys / CLIENTS / f"{name}.key"


def add_client(keys: Path, name: str, sink: str) -> ClientKey:
    """Write the file of a new client; it is not allowed by that. Raises ConfigurationError."""
    check_key(sink, "the sink's public key")
    public, secret = new_pair()
    key = ClientKey(name, public, secret, sink)
    path = client_path(keys, name)
    _make_folder(keys)
    _make_folder(path.parent)
    _write_new(path, _json(key), _SECRET)
    return key


def allow(keys: Path, name: str, public: str) -> None:
    """Let a key in. Raises ConfigurationError if it, or another one of this name, is allowed already."""
    check_name(name)
    check_key(public, "the public key")
    allowed, _ = read_allowed(keys)
    if public in allowed:
        raise ConfigurationError(f"this key is allowed already, as {allowed[public]!r}")
    _write_new(_public_path(keys, name), public + "\n", _PUBLIC)


def revoke(keys: Path, name: str) -> None:
    """Let a key in no more. Raises ConfigurationError if there is none of this name."""
    check_name(name)
    try:
        os.unlink(_public_path(keys, name))
        _sync_folder(keys / ALLOWED)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{keys} allows no {name!r}; see: headrace keys list {keys}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot revoke {name!r}: {error.filename}: {error.strerror}") from error


def allowed_since(keys: Path, name: str) -> float:
    """When it was allowed, Unix time [s]."""
    return _public_path(keys, name).stat().st_mtime


def _public_path(keys: Path, name: str) -> Path:
    return keys / ALLOWED / f"{name}{PUBLIC_SUFFIX}"


def _json(key: SinkKey | ClientKey) -> str:
    return msgspec.json.format(msgspec.json.encode(key)).decode() + "\n"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make {folder}: {error.strerror}") from error


def _write_new(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(fd, "w") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # a rename would replace what is there
        finally:
            os.unlink(draft)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} is there already, and is not replaced") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
