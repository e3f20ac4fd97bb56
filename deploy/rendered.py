"""Files for other programs, made from a topology: all of them are written, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import ConfigurationError

PLAIN, SECRET = 0o644, 0o600
_MANY = 5


@dataclass(frozen=True)
class Rendered:
    """files: text by path, relative to the directory. secret: which of them hold keys. then: what to do with them."""

    files: Mapping[str, str]
    then: Sequence[str]
    secret: frozenset[str] = frozenset()


def write(rendered: Rendered, folder: Path, force: bool) -> list[Path]:
    """Write all; what is the same already stays. Returns the paths that were written.

    Raises ConfigurationError if a file is there with other content and `force` is not given: nothing is written then.
    """
    changed = {path: text for path, text in rendered.files.items() if _read(folder / path) != text}
    there = sorted(path for path in changed if os.path.lexists(folder / path))
    if there and not force:
        listed = ", ".join(there[:_MANY]) + (f" and {len(there) - _MANY} more" if len(there) > _MANY else "")
        raise ConfigurationError(
            f"{folder} has other files of these names already: {listed}; nothing was written. Choose another --out, or "
            "replace them with --force"
        )
    for path, text in changed.items():
        _write(folder / path, text, SECRET if path in rendered.secret else PLAIN)
    return [folder / path for path in changed]


def _read(path: Path) -> str | None:
    try:
        return path.read_text() if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
                file.write(text)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
