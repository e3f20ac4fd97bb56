"""`headrace export FORMAT`: finds the format and writes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from protocol.errors import ConfigurationError
from sink.export import namo

FORMATS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "namo": (namo.main, "planner data of `produce namo`, as the files of the original collection script"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write a dataset in another format. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<6} {text}" for name, (_, text) in FORMATS.items())
        sys.stdout.write(f"usage: headrace export FORMAT [FLAGS]\n\n{rows}\n")
        return 0 if words else 2
    if words[0] not in FORMATS:
        raise ConfigurationError(f"there is no format {words[0]!r}; expected one of: {', '.join(FORMATS)}")
    return FORMATS[words[0]][0](words[1:])


if __name__ == "__main__":
    sys.exit(main())
