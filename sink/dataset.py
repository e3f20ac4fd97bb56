"""The dataset directory: its identity, and the streams that are in it already."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

from protocol.dataset_view import shard_paths
from protocol.errors import ConfigurationError, DatasetError
from protocol.layout import FORMAT_VERSION, ShardLayout
from protocol.spec import StreamSpec
from sink.disk import Disk

IDENTITY_NAME = "dataset.json"
# What is in a directory that becomes a dataset, before it is one.
NOT_YET = {"sink.lock", "dataset.draft"}


def dataset_uuid(root: Path, disk: Disk | None = None) -> str:
    """The dataset's uuid, made when the directory is first used. Raises DatasetError."""
    disk = disk or Disk()
    known = stored_uuid(root)
    if known is not None:
        return known
    identity = {"format_version": FORMAT_VERSION, "uuid": str(uuid.uuid4()), "created_ns": time.time_ns()}
    write_identity(root, json.dumps(identity, indent=2).encode() + b"\n", disk)
    return str(identity["uuid"])


def stored_uuid(root: Path) -> str | None:
    """The uuid that the directory says; None if it says none. Raises DatasetError."""
    path = root / IDENTITY_NAME
    try:
        identity = json.loads(path.read_bytes())
        version, name = identity["format_version"], str(identity["uuid"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not the identity of a Headrace dataset: {error}") from error
    if version != FORMAT_VERSION:
        raise DatasetError(f"{path}: format version {version}; this release writes {FORMAT_VERSION}")
    return name


def write_identity(root: Path, identity: bytes, disk: Disk) -> None:
    """Make `dataset.json`, whole or not at all. Its name is made durable later, before there is a shard."""
    path = root / IDENTITY_NAME
    draft = path.with_suffix(".draft")
    fd = disk.open(draft, create=True)
    try:
        disk.write(fd, [identity], 0)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(draft, path)


def streams_on_disk(root: Path) -> list[StreamSpec]:
    """The schema of every stream in the directory. Raises DatasetError if a shard cannot be read."""
    folders = {path.parent: path for path in reversed(shard_paths(root))}
    specs = {folder: ShardLayout.read(path).spec for folder, path in folders.items()}
    for folder, spec in specs.items():
        if folder != root / spec.name:
            raise DatasetError(f"{folder} holds shards of stream {spec.name!r}; expected them in {root / spec.name}")
    return [specs[folder] for folder in sorted(specs)]


def check_copy(source: Path, copy: Path, noun: str) -> str:
    """The uuid of the source, if `copy` may be its copy; noun: what that is. Raises DatasetError."""
    here, there = copy.resolve(), source.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigurationError(f"{copy} and {source} lie in each other; a {noun} needs a directory of its own")
    uuid = stored_uuid(source)
    if uuid is None:
        found = f"found none in {source}" if source.is_dir() else f"{source} is no directory"
        raise DatasetError(
            f"expected {IDENTITY_NAME} and shards like STREAM/000000.h5, {found}; give the directory that "
            "`headrace sink --data` was given"
        )
    if copy.exists() and not copy.is_dir():
        raise DatasetError(f"{copy} is no directory; a {noun} is made in a new or empty one")
    known = stored_uuid(copy)
    if known is not None and known != uuid:
        raise DatasetError(f"{copy} is dataset {known}, and {source} is {uuid}; choose another directory")
    others = sorted({path.name for path in copy.iterdir()} - NOT_YET) if copy.exists() else []
    if known is None and others:
        raise DatasetError(
            f"{copy} is no dataset and not empty: it has {', '.join(others[:5])}; choose another directory"
        )
    return uuid
