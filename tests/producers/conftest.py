"""OpenGL is chosen once, before anything imports a simulator; other tests do not pay for it."""

from __future__ import annotations

import os
from contextlib import suppress

with suppress(ImportError):
    from producers.robosuite import graphics

    os.environ.update(graphics.environment_variables(graphics.choose_backend()))
