"""Backends are found out in subprocesses: what works, what does not, and what is said then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from producers.robosuite import graphics
from producers.robosuite.graphics import ProbeResult
from protocol.errors import ConfigurationError


def fake_probes(monkeypatch: pytest.MonkeyPatch, renderers: dict[str, str]) -> None:
    """Backends draw with these renderers; one that is left out does not work."""

    def probe(backend: str, timeout_s: float = 0.0) -> ProbeResult:
        del timeout_s
        renderer = renderers.get(backend, "")
        return ProbeResult(graphics._known(backend), bool(renderer), renderer, 0.1, "" if renderer else "no library")

    monkeypatch.setattr(graphics, "probe", probe)


def test_the_chosen_backend_draws() -> None:
    result = graphics.probe(graphics.choose_backend())
    assert result.works, result.error
    assert result.renderer
    assert result.error == ""
    assert 0 < result.seconds < graphics.PROBE_TIMEOUT_S


def test_a_probe_that_hangs_is_a_backend_that_fails() -> None:
    result = graphics.probe("osmesa", timeout_s=0.01)
    assert (result.works, result.error) == (False, "no picture within 0.01 s")


def test_a_failing_probe_tells_the_error_of_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics, "_PROBE", "raise OSError('libOSMesa.so is missing')")
    result = graphics.probe("osmesa")
    assert (result.works, result.error) == (False, "OSError: libOSMesa.so is missing")


def test_a_black_picture_is_a_backend_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics, "_PROBE", 'print(\'{"renderer": "X", "drawn": false}\')')
    result = graphics.probe("egl")
    assert (result.works, result.error) == (False, "X drew a picture that is not red")


@pytest.mark.parametrize(
    ("renderers", "chosen"),
    [
        ({"egl": "NVIDIA H100/PCIe", "osmesa": "llvmpipe (LLVM 15)"}, "egl"),
        ({"egl": "llvmpipe (LLVM 15)", "osmesa": "llvmpipe (LLVM 15)"}, "osmesa"),
        ({"egl": "llvmpipe (LLVM 15)"}, "egl"),
        ({"osmesa": "llvmpipe (LLVM 15)"}, "osmesa"),
    ],
)
def test_a_gpu_goes_before_the_cpu(monkeypatch: pytest.MonkeyPatch, renderers: dict[str, str], chosen: str) -> None:
    fake_probes(monkeypatch, renderers)
    assert graphics.choose_backend() == chosen


def test_without_any_backend_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_probes(monkeypatch, {})
    with pytest.raises(ConfigurationError, match=r"egl: no library; osmesa: no library.*apt-get install.*libosmesa6"):
        graphics.choose_backend()


def test_a_preferred_backend_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_probes(monkeypatch, {"osmesa": "llvmpipe"})
    assert graphics.choose_backend("osmesa") == "osmesa"
    with pytest.raises(ConfigurationError, match="apt-get install libegl1"):
        graphics.choose_backend("egl")


def test_an_unknown_backend_is_refused_with_those_there_are() -> None:
    for ask in (graphics.probe, graphics.choose_backend, graphics.environment_variables):
        with pytest.raises(ConfigurationError, match="no OpenGL backend 'metal'; choose one of: egl, osmesa"):
            ask("metal")


def test_a_worker_is_kept_to_one_core() -> None:
    variables = graphics.environment_variables("osmesa")
    assert (variables["MUJOCO_GL"], variables["PYOPENGL_PLATFORM"]) == ("osmesa", "osmesa")
    assert (variables["OMP_NUM_THREADS"], variables["LP_NUM_THREADS"]) == ("1", "0")


@pytest.mark.parametrize("devices", ["", "GPU-8a1f3c5e", "MIG-8a1f3c5e"])
def test_devices_that_robosuite_cannot_parse_are_hidden_from_it(monkeypatch: pytest.MonkeyPatch, devices: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID", raising=False)
    variables = graphics.environment_variables("egl")
    assert (variables["CUDA_VISIBLE_DEVICES"], variables["MUJOCO_EGL_DEVICE_ID"]) == ("", "0")


def test_plain_device_numbers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert "CUDA_VISIBLE_DEVICES" not in graphics.environment_variables("egl")


def test_numba_is_given_a_directory_it_can_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graphics.environment_variables("egl")["NUMBA_CACHE_DIR"] == str(tmp_path / "headrace" / "numba")
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    chosen = Path(graphics.environment_variables("egl")["NUMBA_CACHE_DIR"])
    assert os.access(chosen, os.W_OK)
    assert file not in chosen.parents


def test_choosing_imports_no_simulator() -> None:
    code = "import sys, producers.robosuite.graphics; print(*{'mujoco', 'robosuite', 'OpenGL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
