"""Write published weights: a version appears whole or not at all, and the pointer moves in one step."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from protocol.errors import ModelError
from protocol.published import (
    CURRENT,
    FORMAT,
    MANIFEST,
    VERSIONS,
    WEIGHTS,
    Manifest,
    PublishedModel,
    check_name,
    current_version,
    open_published,
    version_names,
)
from trainer.whole_files import remove_old_drafts, replace_file, write_folder

_RETRIES = 100


def write_version(models: Path, manifest: Manifest, weights: bytes) -> PublishedModel:
    """A new version, which becomes the current one.

    Its number, size, hash and time are filled in here. Raises ModelError, also where it cannot be written.
    """
    name = check_name(manifest.name)
    versions = models / name / VERSIONS
    try:
        versions.mkdir(parents=True, exist_ok=True)
        remove_old_drafts(versions)
        for _ in range(_RETRIES):
            whole = _numbered(manifest, weights, _next_number(models, name))
            described = msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"
            if write_folder(versions / whole.version, {WEIGHTS: weights, MANIFEST: described}):
                break
        else:
            raise ModelError(
                f"{versions}: other writers took {_RETRIES} version numbers; let one program publish {name}"
            )
        published = open_published(models, name, whole.version)
        set_current(models, name, whole.version)
    except OSError as error:
        raise ModelError(f"{versions}: cannot publish a version ({error.strerror}); the current one stays") from error
    return published


def set_current(models: Path, name: str, version: str) -> None:
    """Move the pointer. A reader sees the old text or the new. Raises OSError."""
    replace_file(models / check_name(name) / CURRENT, f"{check_name(version, 'version')}\n".encode())


def rollback(models: Path, name: str, version: str | None = None) -> str:
    """Point to a version, or to the newest sound one before the current one; returns it. Raises ModelError."""
    if version is None:
        version = _last_sound_before(models, name, current_version(models, name))
    else:
        open_published(models, name, version)
    try:
        set_current(models, name, version)
    except OSError as error:
        raise ModelError(f"{models / name / CURRENT}: cannot write it ({error.strerror})") from error
    return version


def _last_sound_before(models: Path, name: str, current: str) -> str:
    faults = []
    for version in reversed([found for found in version_names(models, name) if found < current]):
        try:
            open_published(models, name, version)
        except ModelError as error:
            faults.append(str(error))
        else:
            return version
    why = f"; those that cannot be used: {' | '.join(faults)}" if faults else ""
    raise ModelError(f"{models / name}: there is no version before {current} to go back to{why}")


def _numbered(manifest: Manifest, weights: bytes, number: int) -> Manifest:
    digest = hashlib.sha256(weights).hexdigest()
    return msgspec.structs.replace(
        manifest,
        format=FORMAT,
        version=f"{number:06d}-{digest[:8]}",
        bytes=len(weights),
        sha256=digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _next_number(models: Path, name: str) -> int:
    numbers = [version.split("-")[0] for version in version_names(models, name)]
    return max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=0) + 1
