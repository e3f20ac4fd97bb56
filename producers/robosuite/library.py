"""robosuite itself, imported once and quietly.

robosuite and mujoco read the environment while they are imported, so the process that imports them must have set:

    MUJOCO_GL           osmesa, egl or glx; robosuite on Linux forces egl when it finds anything else
    PYOPENGL_PLATFORM   the same word as MUJOCO_GL
    NUMBA_CACHE_DIR     a writable directory; otherwise numba writes its cache beside the installed package
    OMP_NUM_THREADS     1: one worker is one core, and BLAS results do not depend on the number of threads

Nothing here sets them: the supervisor does, for the child it spawns. Import robosuite only through `load`, and only in
a spawned child (its EGL display is a module global that does not survive a fork).
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module, metadata
from types import ModuleType

# The logger that robosuite/utils/log_utils.py makes; it sets its own level on import, so only a filter lasts.
_ROBOSUITE_LOGGER = "robosuite_logs"


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@cache
def load() -> ModuleType:
    """The robosuite package. Its advice about private macros and optional packages is not logged; its errors are."""
    logging.getLogger(_ROBOSUITE_LOGGER).addFilter(_is_error)
    return import_module("robosuite")


def versions() -> dict[str, str]:
    """Package name → version of what decides a trajectory; found without importing any of it."""
    return {name: metadata.version(name) for name in ("robosuite", "mujoco", "numpy")}
