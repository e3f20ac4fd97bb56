"""`headrace export FORMAT`: finds the format and writes it."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence

from protocol.errors import ConfigurationError, HeadraceError
from sink.export import command
from sink.export.formats import FORMATS

# Formats that choose and write in their own way: name → (module:function, one line of help).
OTHERS: dict[str, tuple[str, str]] = {
    "namo": ("sink.export.namo:main", "planner data of `produce namo`, as the files of the original collection script"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write a dataset in another format. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    helps = {**{name: text for name, (_, text, _) in FORMATS.items()}, **{n: text for n, (_, text) in OTHERS.items()}}
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, helps))
        rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in helps.items())
        sys.stdout.write(f"usage: headrace export FORMAT [FLAGS]\n\n{rows}\n")
        return 0 if words else 2
    name, rest = words[0], words[1:]
    if name in OTHERS:
        module, function = OTHERS[name][0].split(":")
        other: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
        return other(rest)
    if name not in FORMATS:
        near = difflib.get_close_matches(name, list(helps), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigurationError(f"there is no format {name!r}; {hint}expected one of: {', '.join(helps)}")
    try:
        return command.run(name, rest)
    except ModuleNotFoundError as error:
        extra = FORMATS[name][2]
        raise ConfigurationError(
            f"the format {name} needs the package {error.name!r}; install it with pip install 'headrace[{extra}]'"
        ) from error


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"headrace export: {error}")
