"""Hosts, placement and scripts without a network: what a user wrote is quoted or refused."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from deploy.main import main
from deploy.record import Record, write_record
from deploy.roles import roles_of
from deploy.slurm import client
from deploy.ssh import detach
from deploy.ssh.link import HostError, Link, remote_path, sentence_of
from deploy.ssh.orders import Program
from deploy.ssh.placement import name_of, place, program_of, wanted_cores
from deploy.ssh.programs import Collection, states_of, write_script
from deploy.ssh.settings import HERE, SshSettings, parse_hosts
from deploy.topology import Topology, absolute, read_topology
from protocol.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "ssh.example.toml"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lab1,-oProxyCommand=rm", "found '-oProxyCommand=rm'"),
        ("lab1,,lab2", "found ''"),
        ("lab1;reboot", "found 'lab1;reboot'"),
        ("lab 1", "found 'lab 1'"),
        ("$(reboot)", "expected names or addresses with commas"),
        ("lab1,here", "'here' is no host"),
        ("lab1,lab2,lab1", "lab1 is named twice"),
    ],
)
def test_what_is_no_host_is_refused(text: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", str(EXAMPLE), f"--hosts={text}"]) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_names_addresses_and_users_are_hosts() -> None:
    assert parse_hosts("lab1, me@lab-2.example.org,10.0.0.3,fe80::1%eth0,::1") == (
        "lab1", "me@lab-2.example.org", "10.0.0.3", "fe80::1%eth0", "::1",
    )  # fmt: skip


def test_one_engine_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--slurm", "--hosts", "a"]):
        assert main(["submit", str(EXAMPLE), *words]) == 1
        assert "expected one engine" in capsys.readouterr().err


def test_ssh_never_asks_and_the_host_is_never_an_option() -> None:
    words = Link("lab1", SshSettings(user="me", port=2222, options=("BatchMode=no", "IdentityFile=~/k"))).words()
    options = [words[at + 1] for at, word in enumerate(words) if word == "-o"]
    assert options.index("BatchMode=yes") < options.index("BatchMode=no"), "ssh takes the first"
    assert "ConnectTimeout=10" in options
    assert words[-3:] == ["--", "lab1", "headrace host"]


@pytest.mark.parametrize(
    "table", ['options = ["-F x"]', 'user = "-l"', 'headrace = "-c"', "port = 0", 'shared = true\nworkdir = "x"']
)
def test_settings_that_could_be_something_else_are_refused(table: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.toml.decode(table, type=SshSettings)


def test_the_path_of_the_command_is_one_word_of_a_remote_shell(tmp_path: Path) -> None:
    home = tmp_path / "it's $(home)"
    for path in ("~/a b/$(x)/he'adrace", "~/-x", str(home / "a b" / "&;")):
        shown = subprocess.run(
            ["sh", "-c", f"printf %s {remote_path(path)}"],
            env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert shown == path.replace("~", str(home), 1)


def test_producers_go_where_the_cores_are() -> None:
    topology = read_topology(EXAMPLE)
    roles = roles_of(topology, Path("logs"))
    placed = place(roles, {"lab1": 8, "lab2": 16, "lab3": 4}, "lab1")
    counts = {host: Counter(role.name for role, _ in those) for host, those in placed.items()}
    assert counts == {"lab1": {"sink": 1, "producers-0": 1}, "lab2": {"producers-0": 4}, "lab3": {"producers-0": 1}}
    assert {host: wanted_cores(those) for host, those in placed.items()} == {"lab1": 6, "lab2": 16, "lab3": 4}
    names = [name_of(*each) for those in placed.values() for each in those]
    assert len(set(names)) == len(names) == 7
    here = place(roles, {"lab1": 8, "lab2": 8}, HERE)
    assert [role.name for role, _ in here[HERE]] == ["sink"]
    assert [len(here["lab1"]), len(here["lab2"])] == [3, 3]


def test_programs_find_each_other_by_paths_of_their_own_host() -> None:
    topology = absolute(read_topology(EXAMPLE), Path("/home/me/headrace/two_arms"))
    sink, producers = roles_of(topology, topology.folder / "logs")
    addresses = {"sink": f"{topology.folder}/sink.json"}
    words = program_of(sink, 0, addresses).words
    assert words[words.index("--announce") + 1] == "/home/me/headrace/two_arms/runs/two_arms.collection/sink.json"
    program = program_of(producers, 4, addresses)
    assert program.environment == {
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HEADRACE_NAME": "producers-0.4",
    }  # fmt: skip
    assert program.words[program.words.index("--key") + 1].startswith("/home/me/headrace/two_arms/runs/two_arms.keys/")
    assert "--plain" in program.words


def test_a_script_runs_its_program_with_every_word_as_it_is(tmp_path: Path) -> None:
    where = Collection(tmp_path / "a 'b' $(c)", tmp_path)
    nasty = 'it\'s "$HOME" $(touch x) \\ ; *'
    checkpoint = tmp_path / "check point"
    show = ("sh", "-c", 'printf "%s|" "$@" "$V" "$SET"; exit 3', "sh", nasty)
    before = (("-c", 'echo "prepared $0"', nasty), str(tmp_path / "not there"))
    program = Program("p.1", show, True, {"V": nasty}, before, str(checkpoint), 5)
    checkpoint.touch()
    assert states_of(where, ["p.1"], 3)[0].state == "never ran"
    words = write_script(where, program, ["sh"], ["export SET='by the setup'"])
    assert subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode == 3
    assert where.log("p.1").read_text() == f"prepared {nasty}\n{nasty}|--resume|{nasty}|by the setup|"
    (state,) = states_of(where, ["p.1"], 3)
    assert (state.state, state.exit_status, state.pid) == ("failed", 3, None)
    assert not (tmp_path / "x").exists()


def test_what_ssh_says_becomes_one_sentence() -> None:
    link = Link("lab1", SshSettings())
    unknown = "ssh: Could not resolve hostname lab1: Name or service not known"
    said = sentence_of(link, 255, f"Welcome to lab1\n{unknown}\n")
    assert said == f"lab1: no machine of that name is known here ({unknown}); is it written right in --hosts?"
    assert "ended with status 1: KeyError: 3" in sentence_of(link, 1, "Traceback\nKeyError: 3\n")


def test_without_ssh_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="there is no ssh on this machine; install OpenSSH's client"):
        Link("lab1", SshSettings()).ask(None, object)  # type: ignore[arg-type]


def test_a_host_where_nothing_outlives_a_login_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="there is no tmux, and there is no systemd-run"):
        detach.choose(None)
    with pytest.raises(ConfigurationError, match="cannot use systemd-run: there is no systemd-run"):
        detach.choose("systemd-run")
    (tmp_path / "tmux").symlink_to("/bin/true")
    assert detach.choose(None) == "tmux"


def test_a_collection_of_another_engine_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "check_installed", lambda: None)
    topology: Topology = absolute(read_topology(EXAMPLE), tmp_path)
    topology.folder.mkdir(parents=True)
    write_record(topology.folder, Record("ssh", "two_arms", 1, "t.toml", "lab1:/d", 1.5))
    assert main(["submit", str(EXAMPLE), "--slurm"]) == 1
    assert (
        "the last submission of this collection was to ssh; end it with: headrace cancel t.toml"
        in capsys.readouterr().err
    )
