"""Where environment indices come from: the generator, a set of files with a manifest, or the original's files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from producers.namo.errors import SceneError as SceneError
from producers.namo.generator.difficulty import DIFFICULTIES
from producers.namo.generator.generate import generate
from producers.namo.generator.templates import TEMPLATES
from producers.namo.manifest import MANIFEST, UNFINISHED, SceneMeta, file_of, read_manifest
from producers.namo.mjcf_guard import read_limited
from producers.namo.mjcf_reader import read_mjcf
from producers.namo.mjcf_writer import write_mjcf
from protocol.errors import ConfigurationError
from protocol.namo.scene import Scene

# The templates in turn.
ALL = "all"
_ENDLESS = 1 << 31


@dataclass(frozen=True)
class LoadedScene:
    """A scene, where it came from, and the SHA-256 of its MJCF text.

    xml: the text, if physics should take it as it is; None for scenes of ours, of which `scene` says all there is.
    """

    scene: Scene
    xml: str | None
    source: str
    sha256: str
    meta: SceneMeta = field(default_factory=SceneMeta)


class SceneSource(Protocol):
    """Scenes by environment index, 0 … len - 1."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def load(self, index: int) -> LoadedScene:
        """Always the same one. Raises SceneError that names the file and what is wrong with it."""
        ...


class GeneratedScenes:
    """Made on demand; needs no files. `load` is a pure function of (template, difficulty, seed) and the index."""

    def __init__(self, template: str, difficulty: str, seed: int, count: int = _ENDLESS) -> None:
        """template: one of TEMPLATES, or "all" for each in turn; seed ≥ 0. Raises ConfigurationError."""
        for what, value, known in (("template", template, (*TEMPLATES, ALL)), ("difficulty", difficulty, DIFFICULTIES)):
            if value not in known:
                raise ConfigurationError(f"expected a {what}, one of {', '.join(known)}; found {value!r}")
        if not 0 <= seed < 1 << 64:
            raise ConfigurationError(f"expected 0 ≤ seed < 2**64, found {seed}")
        self.template, self.difficulty, self.seed, self._count = template, difficulty, seed, count

    def __len__(self) -> int:
        return self._count

    def load(self, index: int) -> LoadedScene:
        """Raises SceneError for an index outside."""
        _check_index(index, self._count, f"{self.template}/{self.difficulty} scenes of seed {self.seed}")
        template, number = self.template, index
        if template == ALL:
            number, place = divmod(index, len(TEMPLATES))
            template = list(TEMPLATES)[place]
        made = generate(template, self.difficulty, self.seed, number)
        scene, text = made.scene, write_mjcf(made.scene)
        meta = SceneMeta(len(scene.movables), template, self.difficulty, self.seed, number, made.hops)
        return LoadedScene(scene, None, f"{scene.name} of seed {self.seed}", _sha256(text), meta)


class SceneFiles:
    """The files that a manifest lists; each is verified when it is loaded."""

    def __init__(self, directory: Path) -> None:
        """Raises SceneError if the manifest cannot be used."""
        self._directory = directory
        self._entries = read_manifest(directory).scenes

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, index: int) -> LoadedScene:
        """Raises SceneError if the file is missing or is not the one that the manifest lists."""
        _check_index(index, len(self), f"scenes listed in {self._directory / MANIFEST}")
        entry = self._entries[index]
        path = file_of(self._directory, entry)
        text = read_limited(path)
        _check_same("SHA-256", entry.sha256, _sha256(text), path)
        scene = read_mjcf(text, entry.name, str(path))
        _check_same("scene digest", entry.digest, scene.digest(), path)
        return LoadedScene(scene, None, str(path), entry.sha256, entry.meta)


class OriginalFiles:
    """MJCF files as they are, in the order of their paths."""

    def __init__(self, directory: Path) -> None:
        """Raises SceneError if there are none."""
        self._directory = directory
        self._paths = sorted(directory.rglob("*.xml"), key=lambda path: path.relative_to(directory).parts)
        if not self._paths:
            raise SceneError(f"{directory}: expected {MANIFEST} or *.xml files, found neither there nor in its folders")

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, index: int) -> LoadedScene:
        """Raises SceneError if the file is no scene."""
        _check_index(index, len(self), f"*.xml files in {self._directory}")
        path = self._paths[index]
        text = read_limited(path)
        name = path.relative_to(self._directory).with_suffix("").as_posix()[-255:]
        scene = read_mjcf(text, name, str(path))
        return LoadedScene(scene, text, str(path), _sha256(text), SceneMeta(len(scene.movables)))


def open_scenes(directory: Path) -> SceneSource:
    """A set that `headrace namo scenes` wrote, or a directory of the original's files. Raises SceneError.

    A file that is broken is found when its index is loaded; the others can be used.
    """
    if not directory.is_dir():
        raise SceneError(
            f"{directory}: expected a directory of scenes, found {'a file' if directory.exists() else 'nothing'}"
        )
    if (directory / MANIFEST).exists():
        return SceneFiles(directory)
    if (directory / UNFINISHED).exists():
        raise SceneError(
            f"{directory}: expected {MANIFEST}, found only {UNFINISHED}: the set was not finished; "
            "run the same `headrace namo scenes` again"
        )
    return OriginalFiles(directory)


def _check_index(index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise SceneError(f"environment index {index}: expected 0 ≤ index < {count}, the number of {what}")


def _check_same(what: str, expected: str, found: str, path: Path) -> None:
    if expected != found:
        raise SceneError(
            f"{path}: expected {what} {expected} as in {MANIFEST}, found {found}: the file is not the one that was "
            "written; make the set again, or copy the file again"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
