"""`headrace train act | object | goal`: which program trains what."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from protocol.errors import ConfigurationError

# what → (module:function, one line of help)
PROGRAMS: dict[str, tuple[str, str]] = {
    "act": ("trainer.act.train:main", "a policy with action chunks, by imitation of stored episodes"),
    "object": ("trainer.namo.train:train_object", "which movable to push, from stored searches"),
    "goal": ("trainer.namo.train:train_goal", "where to push it, from stored searches"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one trainer; returns its exit status. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<8} {text}" for name, (_, text) in PROGRAMS.items())
        more = "headrace train WHAT --help tells its flags."
        sys.stdout.write(f"usage: headrace train WHAT [FLAGS]\n\n{rows}\n\n{more}\n")
        return 0 if words else 2
    if words[0] not in PROGRAMS:
        raise ConfigurationError(f"expected one of {', '.join(PROGRAMS)}, found {words[0]!r}")
    module, _, function = PROGRAMS[words[0]][0].partition(":")
    return int(getattr(importlib.import_module(module), function)(words[1:]))
