"""How a server writes where it is."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
import zmq

from protocol.announcement import read_announcement
from protocol.errors import ConfigurationError
from serving import announce
from serving.announce import Announce, Announcer, announce_of

PUBLIC = zmq.curve_keypair()[0].decode()
LOCAL = "tcp://127.0.0.1:0"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sink.json"


def announcer(file: Path, bind: str = LOCAL, advertise: str | None = None, key: str | None = PUBLIC) -> Announcer:
    return Announcer(Announce(file, advertise), "sink", bind, 1, key)


def test_lives_are_counted_and_an_end_is_written(file: Path) -> None:
    for generation in (1, 2, 3):
        server = announcer(file)
        server.ready("tcp://127.0.0.1:5000", "127.0.0.1:9464")
        found = read_announcement(file)
        assert (found.generation, found.endpoint, found.stopped) == (generation, "tcp://127.0.0.1:5000", None)
        server.stopped()
        ended = read_announcement(file)
        assert (ended.generation, ended.started) == (generation, found.started)
        assert ended.stopped is not None
    assert [path.name for path in file.parent.iterdir()] == ["sink.json"]


def test_an_end_does_not_replace_the_next_life(file: Path) -> None:
    first, second = announcer(file), announcer(file)
    first.ready("tcp://127.0.0.1:5000", None)
    second.ready("tcp://127.0.0.1:6000", None)
    first.stopped()
    found = read_announcement(file)
    assert (found.endpoint, found.generation, found.stopped) == ("tcp://127.0.0.1:6000", 2, None)


def test_a_file_that_somebody_removed_is_not_made_again(file: Path) -> None:
    server = announcer(file)
    server.ready("tcp://127.0.0.1:5000", None)
    file.unlink()
    server.stopped()
    assert not file.exists()


def test_garbage_is_replaced_with_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text('{"format": "headrace-ann')
    with caplog.at_level(logging.WARNING):
        announcer(file).ready("tcp://127.0.0.1:5000", None)
    assert read_announcement(file).generation == 1
    assert "it is replaced" in caplog.text


def test_what_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere is no directory; make it first"):
        announcer(tmp_path / "nowhere" / "sink.json")
    (tmp_path / "folder").mkdir()
    server = announcer(tmp_path / "folder")
    with pytest.raises(ConfigurationError, match="cannot write --announce"):
        server.ready("tcp://127.0.0.1:5000", None)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0"])
def test_a_wildcard_is_announced_under_a_name_that_leads_here(
    file: Path, bind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = "tcp://0.0.0.0:5000"
    monkeypatch.setattr(socket, "getfqdn", lambda: "node7.lab")
    addresses = {"node7.lab": "10.1.2.3"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *_, **__: [(0, 0, 0, "", (addresses[name], 0))])
    monkeypatch.setattr(announce, "_outward_address", lambda: "10.1.2.3")
    announcer(file, bind).ready(bound, None)
    assert read_announcement(file).endpoint == "tcp://node7.lab:5000"
    addresses["node7.lab"] = "127.0.1.1"  # as Debian's installer writes it into /etc/hosts
    announcer(file, bind).ready(bound, None)
    assert read_announcement(file).endpoint == "tcp://10.1.2.3:5000"
    monkeypatch.setattr(announce, "_outward_address", lambda: None)
    with pytest.raises(ConfigurationError, match="give --advertise HOST"):
        announcer(file, bind)
    announcer(file, bind, "sink.example.org").ready(bound, None)
    assert read_announcement(file).endpoint == "tcp://sink.example.org:5000"
    announcer(file, bind, "fd00::7").ready(bound, None)
    assert read_announcement(file).endpoint == "tcp://[fd00::7]:5000"


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "::", "", "a b", "node7:5555", "tcp://node7", "a/b"])
def test_a_host_that_nobody_can_connect_to_is_refused(file: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="--advertise"):
        announcer(file, "tcp://0.0.0.0:0", host)


def test_a_name_for_others_needs_keys_and_a_file(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="can be reached from other machines, and without keys anyone could"):
        announcer(file, LOCAL, "node7.lab", key=None)
    with pytest.raises(ConfigurationError, match="goes with --announce"):
        announce_of(None, "node7.lab")
    with pytest.raises(ConfigurationError, match="expected with --bind tcp://"):
        announcer(file, f"ipc://{file.parent}/socket", "node7.lab")
