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
    path = root / IDENTITY_NAME
    if path.exists():
        try:
            identity = json.loads(path.read_text())
            version, name = identity["format_version"], str(identity["uuid"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: not the identity of a Headrace dataset: {error}") from error
        if version != FORMAT_VERSION:
            raise DatasetError(f"{path}: format version {version}; this release writes {FORMAT_VERSION}")
        return name
    identity = {"format_version": FORMAT_VERSION, "uuid": str(uuid.uuid4()), "created_ns": time.time_ns()}
    draft = path.with_suffix(".draft")
    fd = disk.open(draft, create=True)
    try:
        disk.write(fd, [json.dumps(identity, indent=2).encode() + b"\n"], 0)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(draft, path)  # the name is made durable with those of the streams, before there is a shard
    return str(identity["uuid"])


def streams_on_disk(root: Path) -> list[StreamSpec]:
    """The schema of every stream in the directory. Raises DatasetError if a shard cannot be read."""
    folders = {path.parent: path for path in reversed(shard_paths(root))}
    specs = {folder: ShardLayout.read(path).spec for folder, path in folders.items()}
    for folder, spec in specs.items():
        if folder != root / spec.name:
            raise DatasetError(f"{folder} holds shards of stream {spec.name!r}; expected them in {root / spec.name}")
    return [specs[folder] for folder in sorted(specs)]
