"""Write published weights: a version appears whole or not at all, and the pointer moves in one step.

The order holds after a crash as well: the files are synced before their folder gets its name, the name is synced before
the pointer names it. What a dead writer leaves begins with a dot and is never read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
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

_DRAFT = ".draft-"
_RETRIES = 100
# A draft that nobody touched for so long belongs to a writer that died.
OLD_DRAFT_S = 3600.0


def write_version(models: Path, manifest: Manifest, weights: bytes) -> PublishedModel:
    """A new version, which becomes the current one.

    Its number, size, hash and time are filled in here. Raises ModelError, also where it cannot be written.
    """
    name = check_name(manifest.name)
    versions = models / name / VERSIONS
    try:
        versions.mkdir(parents=True, exist_ok=True)
        _remove_old_drafts(versions)
        for _ in range(_RETRIES):
            whole = _numbered(manifest, weights, _next_number(models, name))
            if _write_folder(versions, whole, weights):
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
    folder = models / check_name(name)
    fd, draft = tempfile.mkstemp(prefix=_DRAFT, dir=folder)
    try:
        _write_fd(fd, f"{check_name(version, 'version')}\n".encode())
        os.replace(draft, folder / CURRENT)
    except OSError:
        os.unlink(draft)
        raise
    _sync_folder(folder)


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


def _remove_old_drafts(versions: Path) -> None:
    for draft in versions.glob(f"{_DRAFT}*"):
        # Other writers give their drafts the final name, or remove the same old one, meanwhile.
        with suppress(FileNotFoundError):
            if time.time() - draft.lstat().st_mtime > OLD_DRAFT_S:
                shutil.rmtree(draft)


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


def _write_folder(versions: Path, manifest: Manifest, weights: bytes) -> bool:
    """False if another writer was faster with this number and the same weights."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=versions))
    try:
        draft.chmod(0o755)
        _write_file(draft / WEIGHTS, weights)
        _write_file(draft / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        _sync_folder(draft)
        os.rename(draft, versions / manifest.version)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    _sync_folder(versions)
    return True


def _write_file(path: Path, data: bytes) -> None:
    _write_fd(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), data)


def _write_fd(fd: int, data: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(fd, 0o644)
        os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
