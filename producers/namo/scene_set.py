"""Writes scenes as files with a manifest. Every file appears whole, the manifest last.

A set is a pure function of its settings, so a run that was cut off is resumed by running it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from producers.namo.errors import SceneError
from producers.namo.manifest import MANIFEST, UNFINISHED, Entry, Manifest, encode, file_of, read_manifest
from producers.namo.mjcf_writer import write_mjcf
from producers.namo.scenes import LoadedScene
from protocol.errors import ConfigurationError


def write_set(
    directory: Path, scenes: Iterable[LoadedScene], overwrite: bool, report: Callable[[int], None] = lambda _: None
) -> Manifest:
    """Write all scenes and their manifest. report: is told how many are written, after each.

    A set that is there already may be the same or the beginning of the new one; another one is only replaced if
    `overwrite`. Raises ConfigurationError.
    """
    old = _old_entries(directory, overwrite)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if overwrite:
            (directory / MANIFEST).unlink(missing_ok=True)
        if not old or overwrite:
            (directory / UNFINISHED).touch()
        entries: list[Entry] = []
        for scene in scenes:
            entry = _entry(scene)
            place = len(entries)
            if not overwrite and place < len(old) and old[place] != entry:
                _refuse(directory, f"scene {place} is {old[place].name} of seed {old[place].meta.seed}")
            _write_scene(file_of(directory, entry), write_mjcf(scene.scene).encode(), overwrite)
            entries.append(entry)
            report(len(entries))
        if not overwrite and len(old) > len(entries):
            _refuse(directory, f"it has {len(old)} scenes")
        manifest = Manifest(tuple(entries))
        _write(directory / MANIFEST, encode(manifest))
        _remove_others(directory, old, entries)
        (directory / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {directory}: cannot write there: {error}") from error
    return manifest


def _old_entries(directory: Path, overwrite: bool) -> tuple[Entry, ...]:
    if not (directory / MANIFEST).exists():
        if not overwrite and not (directory / UNFINISHED).exists() and next(directory.rglob("*.xml"), None):
            _refuse(directory, f"*.xml files without {MANIFEST}")
        return ()
    try:
        return read_manifest(directory).scenes
    except SceneError as error:
        if overwrite:
            return ()
        raise ConfigurationError(f"{error}, with --overwrite") from error


def _entry(loaded: LoadedScene) -> Entry:
    meta = loaded.meta
    file = f"{meta.template}/{meta.difficulty}/env_config_{meta.number:06d}.xml"
    return Entry(file, loaded.scene.name, loaded.sha256, loaded.scene.digest(), meta)


def _refuse(directory: Path, found: str) -> None:
    raise ConfigurationError(
        f"--out {directory}: expected no scenes, or the beginning of the same set, found another set: {found}; "
        "choose another directory, or give --overwrite"
    )


def _write_scene(path: Path, content: bytes, overwrite: bool) -> None:
    if path.exists():
        if path.read_bytes() == content:
            return
        if not overwrite:
            raise ConfigurationError(
                f"{path}: expected no file, or the same scene, found another one; choose another directory, "
                "or give --overwrite"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _remove_others(directory: Path, old: Iterable[Entry], new: Iterable[Entry]) -> None:
    kept = {entry.file for entry in new}
    for entry in old:
        if entry.file not in kept:
            file_of(directory, entry).unlink(missing_ok=True)
