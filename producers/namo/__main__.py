"""`headrace namo COMMAND`: what belongs to NAMO alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from protocol.errors import ConfigurationError

# command → (module:function, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "scenes": ("producers.namo.scenes_command:main", "write a set of scenes as MJCF files with a manifest"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<8}  {text}" for name, (_, text) in COMMANDS.items())
        sys.stdout.write(f"usage: headrace namo COMMAND [FLAGS]\n\n{rows}\n")
        return 0
    if not words or words[0] not in COMMANDS:
        found = repr(words[0]) if words else "nothing"
        raise ConfigurationError(f"expected a command, one of {', '.join(COMMANDS)}; found {found}")
    module, function = COMMANDS[words[0]][0].split(":")
    return int(getattr(importlib.import_module(module), function)(words[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
