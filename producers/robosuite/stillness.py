"""What of a model's pictures stays the same while only its joints move.

A frame may be composed from a background and a window around what moves where no pixel outside the window can change:
no geom casts a shadow, every light stands still, and all that moves is a geom.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

_SITE_GROUPS_DRAWN = 3  # MjvOption's default: groups 0, 1 and 2
_ALPHA = 3


def moving_geoms(model: mujoco.MjModel) -> NDArray[np.bool_]:
    """bool[G]: geoms on bodies that some joint moves."""
    moving: NDArray[np.bool_] = _moves(model, model.geom_bodyid)
    return moving


def is_local(model: mujoco.MjModel) -> bool:
    """Whether a geom changes only the pixels that it covers, and nothing but geoms is drawn on moving bodies."""
    lights = np.asarray(model.light_active, dtype=bool)
    shadows = (np.asarray(model.light_castshadow, dtype=bool) & lights).any()
    lights_move = ((_moves(model, model.light_bodyid) | _tracks(model.light_mode)) & lights).any()
    shown = (model.site_rgba[:, _ALPHA] > 0) & (model.site_group < _SITE_GROUPS_DRAWN)
    sites_move = (_moves(model, model.site_bodyid) & shown).any()
    return not (shadows or lights_move or sites_move or model.nskin or model.nflex or model.ntendon)


def stands_still(model: mujoco.MjModel, camera: int) -> bool:
    """Whether the camera is fixed in the world."""
    return not (_moves(model, model.cam_bodyid)[camera] or _tracks(model.cam_mode)[camera])


def is_plain(model: mujoco.MjModel, camera: int) -> bool:
    """Whether the camera is a symmetric pinhole that is told by its field of view alone."""
    perspective = model.cam_projection[camera] == mujoco.mjtProjection.mjPROJ_PERSPECTIVE
    return bool(perspective and not model.cam_sensorsize[camera].any())


def _moves(model: mujoco.MjModel, bodies: NDArray[np.int32]) -> NDArray[np.bool_]:
    moves: NDArray[np.bool_] = model.body_weldid[bodies] != 0
    return moves


def _tracks(modes: NDArray[np.int32]) -> NDArray[np.bool_]:
    tracks: NDArray[np.bool_] = np.asarray(modes) != mujoco.mjtCamLight.mjCAMLIGHT_FIXED
    return tracks
