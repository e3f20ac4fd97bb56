"""Text as systemd reads it, after systemd.syntax(7), systemd.service(5) and systemd.unit(5).

Each line is one setting. `%` begins a specifier everywhere, `$` a variable in commands only, blanks separate words
unless they are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from protocol.errors import ConfigurationError

_PLAIN = re.compile(r"[A-Za-z0-9_.,:@/+=%-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]|[\ud800-\udfff]")


def quoted(text: str) -> str:
    """One word of a list, e.g. of Environment= or ReadWritePaths=. Raises ConfigurationError."""
    safe = _checked(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return safe if _PLAIN.fullmatch(safe) else f'"{safe}"'


def command(words: Iterable[str]) -> str:
    """The value of ExecStart=. The first word is the path of a program. Raises ConfigurationError."""
    program, *arguments = words
    if not program.startswith("/") or "$" in program or "\\" in program:
        raise ConfigurationError(f"{program!r}: expected the absolute path of a program, without $ and backslash")
    return " ".join([quoted(program), *(quoted(each).replace("$", "$$") for each in arguments)])


def raw(text: str) -> str:
    """A value that is not taken apart, e.g. of Description= or WorkingDirectory=. Raises ConfigurationError."""
    if text != text.strip() or text.endswith("\\"):
        raise ConfigurationError(f"{text!r}: expected no blank at either end, and no backslash at the end")
    return _checked(text).replace("%", "%%")


def _checked(text: str) -> str:
    if _CONTROL.search(text):
        raise ConfigurationError(f"{text!r} cannot stand in a unit: expected one line without control characters")
    return text
