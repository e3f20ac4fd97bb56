"""Chooses how OpenGL is reached, and says so to the processes that will draw.

mujoco and robosuite read these environment variables while they are imported, so they are set in a child before that,
and what works is found out in a subprocess. Nothing here imports either.

Backends: `egl` draws on a GPU where there is one, otherwise on the CPU through Mesa's llvmpipe; `osmesa` is llvmpipe
without any display. On a CPU both take the same time per frame (measured with Mesa 22.3: within 1 %), and `osmesa` has
no device to choose wrongly, so it goes first; Mesa 25.1 and later no longer have it, and then `egl` is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from protocol.errors import ConfigurationError

Backend = Literal["egl", "osmesa"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
PROBE_TIMEOUT_S = 60.0
# Debian's and Ubuntu's names.
PACKAGES: Mapping[Backend, str] = {"egl": "libegl1 libgl1-mesa-dri libglvnd0", "osmesa": "libosmesa6"}
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software")

# One frame of a red wall that fills the picture; what is printed last is the answer.
_PROBE = """
import json, mujoco, numpy
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><geom type="box" size="9 9 .1" rgba="1 0 0 1"/><camera pos="0 0 2"/></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
gl = mujoco.GLContext(64, 64)
gl.make_current()
from OpenGL import GL
context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
scene, camera, port = mujoco.MjvScene(model, 10), mujoco.MjvCamera(), mujoco.MjrRect(0, 0, 64, 64)
camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
mujoco.mjv_updateScene(
    model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), camera, mujoco.mjtCatBit.mjCAT_ALL, scene
)
mujoco.mjr_render(port, scene, context)
pixels = numpy.zeros((64, 64, 3), numpy.uint8)
mujoco.mjr_readPixels(pixels, None, port, context)
red, green, _ = pixels[32, 32].tolist()
print(json.dumps({"renderer": GL.glGetString(GL.GL_RENDERER).decode(), "drawn": red > 60 and green < red // 2}))
"""


@dataclass(frozen=True)
class ProbeResult:
    """What a backend did when it was asked for one small picture.

    renderer: OpenGL's own name of what drew, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`; empty if it did not work.
    seconds: wall time of the subprocess, imports included [s].
    error: the last line it said before it failed; empty if it worked.
    """

    backend: Backend
    works: bool
    renderer: str
    seconds: float
    error: str

    @property
    def on_gpu(self) -> bool:
        return self.works and not any(name in self.renderer.lower() for name in _SOFTWARE)


def probe(backend: str, timeout_s: float = PROBE_TIMEOUT_S) -> ProbeResult:
    """Draw one small picture with the backend in a subprocess. Raises ConfigurationError for an unknown name only."""
    known = _known(backend)
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, **environment_variables(known)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(known, False, "", time.monotonic() - started, f"no picture within {timeout_s:g} s")
    seconds = time.monotonic() - started
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        return ProbeResult(known, False, "", seconds, _first_error(said))
    answer = json.loads(done.stdout.splitlines()[-1])
    if not answer["drawn"]:
        return ProbeResult(known, False, "", seconds, f"{answer['renderer']} drew a picture that is not red")
    return ProbeResult(known, True, answer["renderer"], seconds, "")


def choose_backend(preferred: str | None = None) -> Backend:
    """The backend to draw with: `preferred` if it works, otherwise a GPU, then the CPU.

    Raises ConfigurationError that tells what to install when `preferred`, or without one every backend, fails.
    """
    if preferred is not None:
        result = probe(preferred)
        if not result.works:
            raise ConfigurationError(_advice([result]))
        return result.backend
    egl = probe("egl")
    if egl.on_gpu:
        return egl.backend
    osmesa = probe("osmesa")
    for result in (osmesa, egl):
        if result.works:
            return result.backend
    raise ConfigurationError(_advice([egl, osmesa]))


def environment_variables(backend: str) -> dict[str, str]:
    """What to set in a child before it imports mujoco or robosuite, so that it draws with `backend` on one core."""
    variables = {
        "MUJOCO_GL": _known(backend),
        "PYOPENGL_PLATFORM": backend,
        "NUMBA_CACHE_DIR": str(_numba_cache()),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # 0: llvmpipe makes no thread of its own and draws in the one that calls.
        "LP_NUM_THREADS": "0",
    }
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if backend == "egl" and devices is not None and not devices.replace(",", "").isdigit():
        # robosuite parses it as integers: an empty string or a UUID is a ValueError in its egl_context.py.
        variables["CUDA_VISIBLE_DEVICES"] = ""
        variables["MUJOCO_EGL_DEVICE_ID"] = os.environ.get("MUJOCO_EGL_DEVICE_ID", "0")
    return variables


def _known(backend: str) -> Backend:
    for known in BACKENDS:
        if backend == known:
            return known
    raise ConfigurationError(f"there is no OpenGL backend {backend!r}; choose one of: {', '.join(BACKENDS)}")


def _numba_cache() -> Path:
    """A directory of this user's that can be written: numba otherwise writes beside the installed robosuite."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "headrace", "numba")
    for candidate in (Path(named), home) if named else (home,):
        try:
            candidate.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(candidate, os.W_OK):
            return candidate
    fallback = Path(tempfile.gettempdir(), f"headrace-{os.getuid()}", "numba")
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback


def _first_error(said: list[str]) -> str:
    """The line of a traceback that names the error; destructors may complain after it."""
    named = [line for line in said if line and not line.startswith((" ", "Traceback", "Exception ignored"))]
    return (named or said)[0].strip()


def _advice(failed: list[ProbeResult]) -> str:
    reasons = "; ".join(f"{result.backend}: {result.error}" for result in failed)
    packages = " ".join(PACKAGES[result.backend] for result in failed)
    return (
        f"OpenGL cannot draw ({reasons}). On Debian or Ubuntu: apt-get install {packages}. "
        "A GPU also needs its driver's EGL library."
    )
