"""What can be wrong with a scene."""

from __future__ import annotations

from protocol.errors import HeadraceError


class SceneError(HeadraceError):
    """A scene's file, or the set that it belongs to, cannot be used; others of the set may."""
