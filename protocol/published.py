"""Published weights on disk: where they lie, and how to read them without trusting them. Nothing is written here.

    MODELS/NAME/current                                 text: the version that counts; replaced by rename
    MODELS/NAME/versions/VERSION/manifest.json          what the weights are; `Manifest`
    MODELS/NAME/versions/VERSION/weights.safetensors

A folder of a version appears whole, by rename, and is never changed. Names that begin with a dot are drafts.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.errors import ModelError
from protocol.plain_file import read_plain
from protocol.tensor_file import check_tensors

FORMAT = 1
MAX_POINTER_BYTES = 256
MAX_MANIFEST_BYTES = 64 << 10
MAX_WEIGHT_BYTES = 1 << 30
MAX_VERSIONS = 100_000
CURRENT, VERSIONS, MANIFEST, WEIGHTS = "current", "versions", "manifest.json", "weights.safetensors"

Kind = Literal["object", "goal"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a version is.

    architecture: class of the model, one of those that the reader knows; config: its numbers. parameters: how many.
    bytes, sha256: of the weights. created: UTC, ISO 8601. trained_on: free text.
    """

    format: int
    name: Annotated[str, Meta(max_length=64)]
    kind: Kind
    architecture: Annotated[str, Meta(max_length=64)]
    config: Annotated[dict[str, int | float], Meta(max_length=64)]
    version: Annotated[str, Meta(max_length=64)]
    parameters: Annotated[int, Meta(ge=1, le=MAX_WEIGHT_BYTES)]
    bytes: Annotated[int, Meta(ge=1, le=MAX_WEIGHT_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    created: Annotated[str, Meta(max_length=64)]
    trained_on: Annotated[str, Meta(max_length=2000)] = ""


@dataclass(frozen=True)
class PublishedModel:
    """A version whose manifest and weights were found sound. folder: that of the version."""

    folder: Path
    manifest: Manifest

    def weights(self) -> bytes:
        """All of the weights file, checked anew: these bytes are what the manifest promises. Raises ModelError."""
        path, manifest = self.folder / WEIGHTS, self.manifest
        data = read_plain(path, manifest.bytes, exactly=True)
        found = hashlib.sha256(data).hexdigest()
        if found != manifest.sha256:
            raise ModelError(
                f"{path}: expected SHA-256 {manifest.sha256[:16]}…, found {found[:16]}…; "
                f"the file was changed or damaged: publish it again, or headrace models rollback"
            )
        check_tensors(path, data, manifest.parameters)
        return data


def check_name(name: str, what: str = "model") -> str:
    """The name itself, if it can be a folder's and means no other place. Raises ModelError."""
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"expected as the name of a {what} 1 to 64 letters, digits, '.', '_' or '-', "
            f"the first a letter or digit; found {name[:80]!r}"
        )
    return name


def model_names(models: Path) -> list[str]:
    """Models of a directory that have a `versions` folder, sorted. Raises ModelError."""
    try:
        entries = sorted(entry.name for entry in os.scandir(models))
    except OSError as error:
        raise ModelError(f"{models}: cannot list models ({error.strerror}); make some: headrace models init") from error
    return [name for name in entries if _NAME.fullmatch(name) and (models / name / VERSIONS).is_dir()]


def version_names(models: Path, name: str) -> list[str]:
    """All versions of a model, sorted, whether sound or not. Drafts do not count. Raises ModelError."""
    folder = models / check_name(name) / VERSIONS
    try:
        found = [entry.name for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]
    except OSError as error:
        raise ModelError(f"{folder}: no versions of a model ({error.strerror}); {_there_are(models)}") from error
    if len(found) > MAX_VERSIONS:
        raise ModelError(f"{folder}: at most {MAX_VERSIONS} versions, found {len(found)}; remove old ones")
    return sorted(found)


def current_version(models: Path, name: str) -> str:
    """What the pointer says now. Raises ModelError."""
    path = models / check_name(name) / CURRENT
    if not path.parent.is_dir():
        raise ModelError(f"{path.parent}: there is no such model; {_there_are(models)}")
    data = read_plain(path, MAX_POINTER_BYTES)
    return _checked(path, data.decode("ascii", "replace").removesuffix("\n"))


def open_published(models: Path, name: str, version: str | None = None) -> PublishedModel:
    """The current version of a model, or another, with its manifest and weights verified. Raises ModelError."""
    version = current_version(models, name) if version is None else check_name(version, "version")
    folder = models / check_name(name) / VERSIONS / version
    if folder.is_symlink() or not folder.is_dir():
        found = "a link" if folder.is_symlink() else "no folder" if not folder.exists() else "a file"
        raise ModelError(f"{folder}: expected the folder of a version, found {found}; see headrace models list")
    published = PublishedModel(folder, _read_manifest(folder / MANIFEST))
    manifest = published.manifest
    if (manifest.name, manifest.version) != (name, version):
        raise ModelError(
            f"{folder / MANIFEST}: expected model {name!r} version {version!r}, found {manifest.name!r} "
            f"{manifest.version!r}; a version is moved by publishing it again, not by copying its folder"
        )
    published.weights()
    return published


def _read_manifest(path: Path) -> Manifest:
    data = read_plain(path, MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected a manifest of published weights, found: {error}") from error
    if manifest.format != FORMAT:
        raise ModelError(
            f"{path}: expected format {FORMAT}, found {manifest.format}; "
            "publish it again with this Headrace, or use the one that wrote it"
        )
    return manifest


def _checked(path: Path, version: str) -> str:
    try:
        return check_name(version, "version")
    except ModelError as error:
        raise ModelError(f"{path}: {error}; set it with headrace models rollback") from error


def _there_are(models: Path) -> str:
    names = model_names(models)
    return f"{models} has {', '.join(names)}" if names else f"{models} has none: headrace models init"
