"""MuJoCo's own drawing, into a framebuffer that no one sees.

The drawing settings that are not a choice here are robosuite's (robosuite/utils/binding_utils.py, MjRenderContext).
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray
from OpenGL import GL

from producers.robosuite.projection import Window, narrow

# robosuite keeps collision geoms in group 0 and does not draw them.
HIDDEN_GROUP = 0
_MAX_GEOMS = 10_000


class Canvas:
    """An OpenGL context of one size, with the meshes and textures of one model. Belongs to one thread."""

    def __init__(self, model: mujoco.MjModel, height: int, width: int, *, reflections: bool, blend_mipmaps: bool):
        self._model = model
        self.whole = Window(0, 0, width, height)
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._option, self._perturb, self._camera = mujoco.MjvOption(), mujoco.MjvPerturb(), mujoco.MjvCamera()
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._gl = mujoco.GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        if not blend_mipmaps:
            self._take_nearer_mipmap()

    def draw(self, data: mujoco.MjData, camera: int, window: Window) -> NDArray[np.uint8]:
        """uint8[h, w, 3]: the window's part of the camera's image, upright RGB. Kinematics must be up to date."""
        self._gl.make_current()
        self._camera.fixedcamid = camera
        mujoco.mjv_updateScene(
            self._model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if window != self.whole:
            narrow(self._scene, window, self.whole)
        pixels = np.empty((window.height, window.width, 3), dtype=np.uint8)
        viewport = mujoco.MjrRect(0, 0, window.width, window.height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return pixels[::-1]

    def close(self) -> None:
        """Give back the memory that OpenGL holds; draw no more."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def _take_nearer_mipmap(self) -> None:
        for texture, kind in zip(self._context.texture, self._model.tex_type, strict=False):
            target = GL.GL_TEXTURE_2D if kind == mujoco.mjtTexture.mjTEXTURE_2D else GL.GL_TEXTURE_CUBE_MAP
            GL.glBindTexture(target, int(texture))
            GL.glTexParameteri(target, GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR_MIPMAP_NEAREST)
            GL.glBindTexture(target, 0)
