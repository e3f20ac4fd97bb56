"""`headrace doctor`: on this machine, and on what other machines would say."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy.check import Check
from deploy.disk_checks import disk_checks, file_system_check, nearest_directory
from deploy.doctor import main
from deploy.machine_checks import PORTS, clock_check, descriptors_check, memory_check, port_checks, torch_check
from deploy.package_checks import fits, package_check, package_checks, requirements


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--data", str(tmp_path / "not" / "yet"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    states = {check["name"]: check["state"] for check in answer["checks"]}
    assert {"Python", "numpy", "h5py", "cores", "memory", "JPEG", "port 5555", "disk write", "clock"} <= set(states)
    assert states["Python"] == states["h5py"] == "ok"
    assert answer["ready"] == ("missing" not in states.values()) == (status == 0)
    assert all(check["advice"] for check in answer["checks"] if check["state"] != "ok")
    assert list(tmp_path.iterdir()) == []


def test_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("✓ Python ")
    assert all(line[0] in "✓!✗" for line in lines[:-1])
    assert lines[-1] == "ready" or lines[-1].startswith("missing: ")


# --- packages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "limits", "good"),
    [
        ("3.6.0", "==3.6.0", True),
        ("3.6", "==3.6.0", True),
        ("1.26.4", ">=1.26", True),
        ("1.9", ">=1.26", False),
        ("2.0.0", "<2,>=1.8", False),
        ("1.8.3", "<2,>=1.8", True),
        ("3.0rc1", ">=3", True),
        ("1.5", "!=1.5", False),
        ("7", "", True),
    ],
)
def test_limits(version: str, limits: str, good: bool) -> None:
    assert fits(version, limits) is good


def test_requirements_are_read_from_the_metadata() -> None:
    lines = ["numpy>=1.26", "mujoco==3.6.0; extra == 'producers'", "headrace[sink]; extra == 'all'", "PyYAML"]
    assert requirements(lines) == {"": [("numpy", ">=1.26"), ("PyYAML", "")], "producers": [("mujoco", "==3.6.0")]}


@pytest.mark.parametrize(
    ("name", "version", "state", "said"),
    [
        ("mujoco", "3.6.0", "ok", ""),
        ("mujoco", "3.3.7", "warning", "expected ==3.6.0"),
        ("mujoco", "3.10.0", "missing", "robosuite 1.5.2 fails on mujoco 3.10 and later"),
        ("mujoco", "4.0.0", "missing", "pip install 'mujoco==3.6.0'"),
        ("mujoco", None, "missing", "pip install 'mujoco==3.6.0'"),
    ],
)
def test_a_package(name: str, version: str | None, state: str, said: str) -> None:
    check = package_check(name, "==3.6.0", version)
    assert check.state == state
    assert said in check.advice


def test_every_package_is_looked_at_once() -> None:
    names = [check.name for check in package_checks()]
    assert len(names) == len(set(names))
    assert {"msgspec", "xxhash", "simplejpeg"} <= set(names)


# --- disk -------------------------------------------------------------------------------------------------------


def test_a_disk(tmp_path: Path) -> None:
    checks = by_name(disk_checks(tmp_path))
    assert checks["disk lock"].state == checks["disk reserve"].state == "ok"
    assert "MB/s with fdatasync" in checks["disk write"].found
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written() -> None:
    check = by_name(disk_checks(Path("/proc")))["disk write"]
    assert check.state == "missing"
    assert "cannot write to /proc" in check.found


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert nearest_directory(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize(
    ("magic", "state", "said"),
    [
        (0xEF53, "ok", "ext4"),
        (0x6969, "warning", "NFS, over the network"),
        (0xFE534D42, "warning", "SMB2, over the network"),
        (0x01021994, "warning", "tmpfs"),
        (0xABCD, "ok", "unknown, type 0xabcd"),
    ],
)
def test_file_systems(magic: int, state: str, said: str) -> None:
    check = file_system_check(magic)
    assert (check.state, check.found) == (state, said)


# --- the rest ---------------------------------------------------------------------------------------------------


def test_a_port_in_use() -> None:
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            mine.bind(("127.0.0.1", 9464))
            mine.listen()
        except OSError:
            pass  # somebody else uses it: as good
        check = by_name(port_checks())["port 9464"]
    assert check.state == "warning"
    assert "--http" in check.advice
    assert set(PORTS) == {5555, 9464}


def test_torchs_device(monkeypatch: pytest.MonkeyPatch) -> None:
    check = torch_check()
    assert check.state == "ok"
    assert check.found.split(":")[0] in ("cpu", "cuda")
    monkeypatch.setattr("deploy.machine_checks._ASK_TORCH", "raise OSError('libcudart.so: cannot open')")
    check = torch_check()
    assert (check.state, check.found) == ("missing", "OSError: libcudart.so: cannot open")


def test_this_machine() -> None:
    assert "GB free of" in memory_check().found
    assert "UTC" in clock_check().found
    assert "at most" in descriptors_check().found
