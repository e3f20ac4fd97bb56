"""The list that makes an environment index name one scene for ever."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from producers.namo.errors import SceneError

MANIFEST, UNFINISHED = "manifest.json", "manifest.json.unfinished"
FORMAT: Literal["headrace.namo.scenes/1"] = "headrace.namo.scenes/1"
MAX_BYTES = 1 << 30

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class SceneMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known about a scene; empty and -1: unknown. hops: boundaries of movables between robot and goal.

    number: the index with which the generator made it.
    """

    n_movables: int = -1
    template: str = ""
    difficulty: str = ""
    seed: int = -1
    number: int = -1
    hops: int = -1


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scene. file: relative to the manifest, with slashes; sha256 of the file; digest of the scene."""

    file: str
    name: str
    sha256: Sha256
    digest: Sha256
    meta: SceneMeta


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """scenes: the environment index is the place in this list."""

    scenes: tuple[Entry, ...]
    format: Literal["headrace.namo.scenes/1"] = FORMAT


def read_manifest(directory: Path) -> Manifest:
    """Raises SceneError."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SceneError(f"{path}: expected at most {MAX_BYTES >> 20} MiB, found {path.stat().st_size} bytes")
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SceneError(
            f"{path}: expected a manifest of format {FORMAT}: {error}; make the set again with `headrace namo scenes`"
        ) from error


def file_of(directory: Path, entry: Entry) -> Path:
    """Where a scene's file is. Raises SceneError if the manifest points out of its directory."""
    inside = PurePosixPath(entry.file)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise SceneError(
            f"{directory / MANIFEST}: expected files inside this directory, found {entry.file!r}; make the set again"
        )
    return directory / inside


def encode(manifest: Manifest) -> bytes:
    """As stored: indented, for people and for diff."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
