"""Checkpoints of a policy on disk, and how to read them without trusting them. Nothing is written here.

    DIR/current                          text: the checkpoint that counts; replaced by rename
    DIR/checkpoints/NAME/manifest.json   what it is; `Checkpoint`
    DIR/checkpoints/NAME/…               the files that the manifest lists, each with size and SHA-256

A folder of a checkpoint appears whole, by rename, and is never changed. Names that begin with a dot are drafts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from protocol.errors import ModelError
from protocol.plain_file import read_plain
from protocol.published import check_name

FORMAT = 1
MAX_POINTER_BYTES = 256
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 8 << 30
CURRENT, CHECKPOINTS, MANIFEST = "current", "checkpoints", "manifest.json"
WEIGHTS, TRAINING, PROGRESS, SEEDS = "weights.safetensors", "training.safetensors", "progress.json", "seeds.u64"

_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Text = Annotated[str, Meta(max_length=256)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bytes: size. numbers: float32 in a file of tensors, 0 for others."""

    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    numbers: _Count = 0


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the policy was trained on, as far as it must be known to try it out.

    streams: names. state_columns: name → numbers of one row, in the order of the state. cameras: name → height and
    width as stored [pixels]. rate_hz: actions a second. attributes: of the last episode: `env_args`, `preset`, ….
    episodes: committed ones that were there.
    """

    streams: Annotated[tuple[_Text, ...], Meta(max_length=1024)]
    state_columns: Annotated[dict[str, _Count], Meta(max_length=256)]
    cameras: Annotated[dict[str, tuple[_Count, _Count]], Meta(max_length=64)]
    rate_hz: Annotated[float, Meta(gt=0)]
    attributes: dict[str, Any]
    episodes: _Count


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest. architecture: e.g. `Act`; config: its sizes. step: of training. created: UTC, ISO 8601."""

    format: int
    architecture: Annotated[str, Meta(max_length=64)]
    config: Annotated[dict[str, Any], Meta(max_length=64)]
    step: _Count
    source: Source
    files: Annotated[dict[str, FileEntry], Meta(max_length=16)]
    created: _Text


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint whose manifest was found sound. folder: of the checkpoint itself."""

    folder: Path
    manifest: Checkpoint

    @property
    def name(self) -> str:
        """E.g. `step-00001000`."""
        return self.folder.name

    def read(self, name: str) -> bytes:
        """A file's bytes: they are what the manifest promises. Raises ModelError."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise ModelError(f"{self.folder}: expected {name} in its manifest, found {', '.join(self.manifest.files)}")
        data = read_plain(self.folder / name, entry.bytes, exactly=True)
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise ModelError(
                f"{self.folder / name}: expected SHA-256 {entry.sha256[:16]}…, found {found[:16]}…; "
                f"the file was changed or damaged: use another checkpoint of {self.folder.parent}"
            )
        return data

    def seeds(self) -> NDArray[np.uint64]:
        """Of every episode that the dataset had: what an evaluation must not use. uint64[episodes]."""
        return np.frombuffer(self.read(SEEDS), "<u8")


def open_checkpoint(path: Path) -> OpenCheckpoint:
    """The current checkpoint of a training's directory, or the checkpoint whose own folder this is.

    Raises ModelError.
    """
    folder = path if (path / MANIFEST).exists() else path / CHECKPOINTS / current_name(path)
    data = read_plain(folder / MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=Checkpoint)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / MANIFEST}: expected the manifest of a checkpoint, found: {error}") from error
    if manifest.format != FORMAT:
        raise ModelError(f"{folder / MANIFEST}: expected format {FORMAT}, found {manifest.format}; train it again")
    return OpenCheckpoint(folder, manifest)


def has_checkpoint(path: Path) -> bool:
    """A training wrote its first checkpoint here."""
    return (path / CURRENT).exists()


def current_name(path: Path) -> str:
    """What the pointer says. Raises ModelError."""
    if not has_checkpoint(path):
        raise ModelError(f"{path}: expected a directory that headrace train act wrote, found no checkpoint in it")
    data = read_plain(path / CURRENT, MAX_POINTER_BYTES)
    return check_name(data.decode("ascii", "replace").removesuffix("\n"), "checkpoint")
