"""The dataset directory: its identity, and the streams that are in it already."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

from protocol.dataset_view import shard_paths
from protocol.errors import DatasetError
from protocol.layout import FORMAT_VERSION, ShardLayout
from protocol.spec import StreamSpec
from sink.disk import Disk

IDENTITY_NAME = "dataset.json"


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
