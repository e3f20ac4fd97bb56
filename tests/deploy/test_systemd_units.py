"""Units are what systemd reads as they were meant: checked by systemd's own programs, and word by word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploy.rendered import write
from deploy.systemd.quoting import command, quoted, raw
from deploy.systemd.units import render_units
from deploy.topology import Topology, read_topology
from protocol.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "systemd.example.toml"
# systemd's own measure, from 0 (sealed) to 10. A GPU costs devices.
EXPOSURE, EXPOSURE_WITH_GPU = 1.7, 2.0
SMALL = """
[sink]
data = "{data}"
[[producers]]
simulator = "robosuite"
[systemd]
{more}
"""
PYTHON = 'python = "/usr/bin/python3"\n'


def rendered(topology: Topology, user: bool = False) -> dict[str, str]:
    return dict(render_units(topology, Path("/home/me/work"), user).files)


def read(folder: Path, data: str = "can", more: str = "") -> Topology:
    more = more if more.startswith("user") else PYTHON + more
    (folder / "t.toml").write_text(SMALL.format(data=data, more=more))
    return read_topology(folder / "t.toml")


def settings(unit: str, key: str) -> list[str]:
    """All values of one key."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def analyze(*words: str, units: Path | None = None) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, or a skip."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; `make engines` installs it, as root")
    path = {"SYSTEMD_UNIT_PATH": f"{units}:"} if units is not None else {}
    environment = (
        os.environ | path | {"SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_COLORS": "0", "XDG_RUNTIME_DIR": str(units)}
    )
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, check=False, env=environment, timeout=120
    )


@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_to_say_about_the_example(tmp_path: Path, user: bool) -> None:
    topology = read_topology(EXAMPLE)
    # It asks whether the program is there; the example's interpreter is on a Debian with Python only.
    there = msgspec.structs.replace(topology.systemd, python="/bin/sh")
    write(render_units(msgspec.structs.replace(topology, systemd=there), tmp_path, user), tmp_path, force=False)
    files = sorted(str(path) for pattern in ("*.service", "*.target") for path in tmp_path.glob(pattern))
    assert len(files) == 6
    done = analyze("verify", *(["--user"] if user else []), *files, units=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_have_found_a_fault(tmp_path: Path) -> None:
    """So the test above can fail."""
    unit = rendered(read_topology(EXAMPLE))["headrace-sink.service"]
    (tmp_path / "headrace-sink.service").write_text(unit.replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in analyze("verify", str(tmp_path / "headrace-sink.service"), units=tmp_path).stderr


def test_units_of_the_system_are_sealed(tmp_path: Path) -> None:
    write(render_units(read_topology(EXAMPLE), tmp_path, False), tmp_path, force=False)
    help_text = analyze("--help").stdout
    if "--offline" not in help_text or "--threshold" not in help_text:
        pytest.skip("this systemd-analyze cannot judge a unit file (before 250)")
    for unit in tmp_path.glob("*.service"):
        limit = EXPOSURE_WITH_GPU if "DeviceAllow=char-drm" in unit.read_text() else EXPOSURE
        done = analyze("security", "--offline=true", f"--threshold={int(limit * 10)}", "--no-pager", str(unit))
        assert done.returncode == 0, done.stdout[-2000:]


def test_what_each_unit_is_told() -> None:
    files = rendered(read_topology(EXAMPLE))
    assert sorted(files) == [
        "headrace-inference.service",
        "headrace-producer-0@.service",
        "headrace-producer-1@.service",
        "headrace-sink.service",
        "headrace-train-object.service",
        "headrace.target",
        "sysusers.d/headrace.conf",
    ]
    sink, planner, drawer = (files[f"headrace-{name}.service"] for name in ("sink", "producer-0@", "producer-1@"))
    for server in (sink, files["headrace-inference.service"]):
        assert settings(server, "Type") == ["notify"]
        assert int(settings(server, "WatchdogSec")[0]) > 0
    assert settings(sink, "MemoryMax") == ["3072M"]
    assert settings(sink, "StateDirectory") == ["headrace"]
    assert settings(sink, "ReadOnlyPaths") == ["-/var/lib/headrace/keys"]
    assert int(settings(sink, "TimeoutStopSec")[0]) > 30, "the sink's own limit of its drain"
    assert settings(planner, "InaccessiblePaths") == ["-/var/lib/headrace/keys/sink.key"]
    assert settings(planner, "After")[1:] == ["headrace-sink.service", "headrace-inference.service"]
    assert "HEADRACE_NAME=%H/producers-0.%i" in settings(planner, "Environment")
    assert settings(planner, "RestartPreventExitStatus") == ["2"], "wrong flags are no better the next time"
    for stopped in (planner, files["headrace-train-object.service"]):
        assert settings(stopped, "SuccessExitStatus") == ["130"], "asked to stop is no failure"
    assert (settings(planner, "CPUQuota"), settings(planner, "KillMode")) == (["200%"], ["mixed"])
    assert "MUJOCO_GL=egl" in settings(drawer, "Environment")
    assert settings(planner, "PrivateDevices") == ["yes"]
    assert settings(drawer, "PrivateDevices") == []
    assert "--sink /var/lib/headrace/flywheel.collection/sink.json" in settings(drawer, "ExecStart")[0]
    wanted = settings(files["headrace.target"], "Wants")
    assert wanted[:2] == ["headrace-sink.service", "headrace-inference.service"]
    assert wanted[-2:] == ["headrace-producer-0@3.service", "headrace-producer-1@0.service"]


def test_pauses_grow_where_systemd_can(tmp_path: Path) -> None:
    assert "RestartSteps" not in rendered(read(tmp_path))["headrace-sink.service"]
    newer = rendered(read(tmp_path, more="version = 254\nprefix = 'lab2'"))
    assert settings(newer["lab2-sink.service"], "RestartSteps") == ["5"]
    assert "lab2-producer@.service" in newer


def test_absolute_places_are_made_and_may_be_written(tmp_path: Path) -> None:
    topology = read(tmp_path, data="/data/100% of it/can")
    files = rendered(topology)
    folder = '"/data/100%% of it/can'
    assert settings(files["headrace-sink.service"], "ReadWritePaths") == [f'{folder}"', f'{folder}.collection"']
    assert settings(files["headrace-sink.service"], "ProtectHome") == ["yes"]
    at_home = rendered(read(tmp_path, data="/home/x/can"))["headrace-sink.service"]
    assert settings(at_home, "ProtectHome") == ["read-only"]
    if os.geteuid() != 0 or shutil.which("systemd-tmpfiles") is None:
        pytest.skip("the directories are made by systemd-tmpfiles as root")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("headrace:x:995:995::/:/bin/false\n")
    (root / "etc" / "group").write_text("headrace:x:995:\n")
    (root / "headrace.conf").write_text(files["tmpfiles.d/headrace.conf"])
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", root / "headrace.conf"], check=True, timeout=60)
    made = (root / "data" / "100% of it" / "can").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (995, 0o750)


def test_a_user_s_units_have_no_user_and_begin_here(tmp_path: Path) -> None:
    files = rendered(read(tmp_path), user=True)
    assert sorted(files) == ["headrace-producer@.service", "headrace-sink.service", "headrace.target"]
    sink = files["headrace-sink.service"]
    assert settings(sink, "User") == settings(sink, "ProtectSystem") == []
    assert settings(sink, "NoNewPrivileges") == ["yes"]
    assert "--data /home/me/work/can " in settings(sink, "ExecStart")[0]
    assert settings(files["headrace.target"], "WantedBy") == ["default.target"]


WORDS = [
    "plain",
    "",
    "two words",
    "100%n",
    "$HOME ${HOME} $$",
    'a "quoted" word',
    "it's",
    "back\\slash\\",
    ";",
    "#x",
    "ü→",
]


def test_every_word_arrives_as_it_was_meant(tmp_path: Path) -> None:
    """systemd itself takes the command apart; it is not told to run it."""
    text = command([sys.executable, *WORDS])
    (tmp_path / "words.service").write_text(f"[Service]\nType=oneshot\nExecStart={text}\n")
    done = analyze("verify", str(tmp_path / "words.service"), units=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert quoted("a b%") == '"a b%%"'
    assert quoted("KEY=$x") == '"KEY=$x"', "a variable's value is not looked at for variables"


@pytest.mark.parametrize("word", ["two\nlines", "\0", "tab\there", "\x7f", "\udcff"])
def test_what_no_line_can_hold_is_refused(word: str) -> None:
    for make in (quoted, raw, lambda text: command(["/bin/true", text])):
        with pytest.raises(ConfigurationError, match="cannot stand in a unit"):
            make(word)


@pytest.mark.parametrize(
    ("data", "more", "expected"),
    [
        ("/tmp/can", "", "PrivateTmp"),
        ("can", "[sink.resources]\nmemory_mib = 300", "the sink's own bound is 256"),
        ("can", '[[producers]]\nprogram = ["python", "x.py"]', "the absolute path of a program"),
        ("can", 'user = "lab"\npython = "/root/venv/bin/python"', "the user lab cannot run what is below /root"),
        ("a\\nb", "", "cannot stand in a unit"),
        ("can", '[[producers]]\nprogram = ["/opt/$x/python"]', "without $ and backslash"),
    ],
)
def test_what_units_cannot_do_is_said(tmp_path: Path, data: str, more: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        rendered(read(tmp_path, data, more))


def test_an_endpoint_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[sink]\ndata = "d"\nbind = "ipc:///run/x"\n[[producers]]\nsimulator = "namo"\n')
    with pytest.raises(ConfigurationError, match="units cannot share it"):
        rendered(read_topology(tmp_path / "t.toml"))
