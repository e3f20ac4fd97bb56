"""Draws the cameras of stored simulator states: as robosuite would (`exact`), or nearly so and much faster (`fast`).

`fast` leaves out what costs most on a CPU and shows least. CPU milliseconds for one 480×640 frame of PickPlaceCan, one
thread of llvmpipe (Mesa 22.3, AMD EPYC), each line with all that is above it:

                                    agentview   robot0_eye_in_hand
    exact                              113             94
    no reflections                      71             44
    no multisampling                    31             22
    meshes of 185 k → 59 k faces        21             17
    nearer mipmap only                  18             15
    skip what is unchanged               9             14

The environment variables that graphics.py names must be set before this module is imported. A renderer belongs to one
thread.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from producers.robosuite import stillness
from producers.robosuite.canvas import HIDDEN_GROUP, Canvas
from producers.robosuite.mesh_decimation import Decimation
from producers.robosuite.projection import Projection, Window, enclosing, overlaps
from producers.robosuite.render_model import render_model
from protocol.errors import ConfigurationError, EpisodeError


@dataclass(frozen=True)
class Preset:
    """What is drawn, and what is left out.

    multisampling: as many samples for each pixel as the model asks for (4 in robosuite), not one.
    reflections: draw the scene again in every floor that reflects.
    blend_mipmaps: a texture blends its two nearest sizes, not take the nearer one.
    decimation: how far to simplify meshes that have no texture; None leaves them.
    skip_unchanged: where a camera stands still, draw only around what moves; draw no geom that is out of view.
    """

    multisampling: bool
    reflections: bool
    blend_mipmaps: bool
    decimation: Decimation | None
    skip_unchanged: bool


PRESETS: Mapping[str, Preset] = {
    "exact": Preset(multisampling=True, reflections=True, blend_mipmaps=True, decimation=None, skip_unchanged=False),
    "fast": Preset(
        multisampling=False, reflections=False, blend_mipmaps=False, decimation=Decimation(), skip_unchanged=True
    ),
}


class StateRenderer:
    """Draws named cameras of one model; an `environment.Renderer`.

    Give it the compiled model that simulated the states (robosuite's `env.sim.model._model`), not one compiled again
    from MJCF text, which keeps six digits of each number: `exact` would then differ along edges. The model is copied.
    """

    def __init__(
        self, model: mujoco.MjModel, camera_names: Sequence[str], height: int, width: int, preset: str = "fast"
    ) -> None:
        chosen = find_preset(preset)
        self._cameras = {name: camera_id(model, name) for name in camera_names}
        if min(height, width) < 1:
            raise ConfigurationError(f"expected images of at least 1×1 pixels, found {height}×{width}")
        self._model = copy.copy(model) if chosen.decimation is None else render_model(model, chosen.decimation)
        if not chosen.multisampling:
            self._model.vis.quality.offsamples = 0
        self._data = mujoco.MjData(self._model)
        self._groups = self._model.geom_group.copy()
        self._moving = stillness.moving_geoms(self._model) & (self._groups != HIDDEN_GROUP)
        self._projection = Projection(self._model, height, width)
        self._canvas = Canvas(
            self._model, height, width, reflections=chosen.reflections, blend_mipmaps=chosen.blend_mipmaps
        )
        self._backgrounds: dict[int, NDArray[np.uint8]] = {}
        self._projected: set[int] = set()
        if chosen.skip_unchanged and stillness.is_local(self._model):
            self._projected = {camera for camera in self._cameras.values() if stillness.is_plain(model, camera)}
            self._backgrounds = self._draw_backgrounds()

    def render(self, state: NDArray[np.float64]) -> dict[str, NDArray[np.uint8]]:
        """Camera name → uint8[H, W, 3], upright RGB, C-contiguous, for one float64[1 + nq + nv]: time, qpos, qvel."""
        expected = (1 + self._model.nq + self._model.nv,)
        if state.shape != expected:
            raise EpisodeError(f"expected a state float64{list(expected)} (time, qpos, qvel), found {state.shape}")
        self._data.time = state[0]
        self._data.qpos = state[1 : 1 + self._model.nq]
        self._data.qvel = state[1 + self._model.nq :]
        self._place()
        return {name: self._draw(camera) for name, camera in self._cameras.items()}

    def close(self) -> None:
        """Give back the memory that OpenGL holds. `render` must not be called again."""
        self._canvas.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self) -> None:
        """The part of mj_forward that drawing depends on: geoms, cameras and lights."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _draw(self, camera: int) -> NDArray[np.uint8]:
        """uint8[H, W, 3]: one camera of the state that is placed."""
        whole = self._canvas.whole
        if camera not in self._projected:
            return np.ascontiguousarray(self._canvas.draw(self._data, camera, whole))
        rectangles = self._projection.rectangles(self._data, camera)
        background = self._backgrounds.get(camera)
        if background is None:
            return np.ascontiguousarray(self._draw_window(camera, whole, overlaps(rectangles, whole)))
        image = background.copy()
        window = enclosing(rectangles[self._moving])
        if window.width and window.height:
            pixels = self._draw_window(camera, window, overlaps(rectangles, window))
            image[whole.top - window.top : whole.top - window.bottom, window.left : window.right] = pixels
        return image

    def _draw_window(self, camera: int, window: Window, shown: NDArray[np.bool_]) -> NDArray[np.uint8]:
        self._model.geom_group[:] = np.where(shown, self._groups, HIDDEN_GROUP)
        return self._canvas.draw(self._data, camera, window)

    def _draw_backgrounds(self) -> dict[int, NDArray[np.uint8]]:
        """Camera → its image without what moves, for each camera that stands still."""
        self._place()
        still = [camera for camera in self._projected if stillness.stands_still(self._model, camera)]
        return {camera: self._draw_window(camera, self._canvas.whole, ~self._moving).copy() for camera in still}


def find_preset(name: str) -> Preset:
    """The preset of that name, or a ConfigurationError that lists those there are."""
    if name not in PRESETS:
        raise ConfigurationError(f"there is no rendering preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]


def camera_id(model: mujoco.MjModel, name: str) -> int:
    """MuJoCo's number for a camera, or a ConfigurationError that lists the model's cameras."""
    number: int = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if number < 0:
        names = ", ".join(model.camera(index).name for index in range(model.ncam)) or "none"
        raise ConfigurationError(f"the model has no camera {name!r}; its cameras are: {names}")
    return number
