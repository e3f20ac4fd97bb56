"""Announcements: what is believed of a file that anyone may have put there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import announcement
from protocol.announcement import (
    MAX_BYTES,
    Announcement,
    AnnouncementMissingError,
    check_server,
    read_announcement,
)
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey

PUBLIC = zmq.curve_keypair()[0].decode()
GOOD: dict[str, Any] = {
    "format": "headrace-announcement",
    "format_version": 1,
    "role": "sink",
    "endpoint": "tcp://node7.lab:5555",
    "http": "127.0.0.1:9464",
    "public_key": PUBLIC,
    "generation": 3,
    "host": "node7",
    "pid": 41,
    "version": "0.1.0",
    "protocol": 1,
    "started": "2026-11-21T20:00:00Z",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sink.json"


def write(file: Path, **changes: Any) -> Path:
    file.write_text(json.dumps({**GOOD, **changes}))
    return file


def test_the_document_names_every_field() -> None:
    text = (Path(announcement.__file__).parent / "SPEC.md").read_text()
    section = text[text.index("#### `Announcement`") :]
    fields = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert fields == [field.name for field in msgspec.structs.fields(Announcement)]
    assert f"at most {MAX_BYTES} bytes" in section


def test_every_field_is_read(file: Path) -> None:
    found = read_announcement(write(file, stopped="2026-11-21T21:00:00.5Z"))
    assert msgspec.to_builtins(found) == {**GOOD, "stopped": "2026-11-21T21:00:00.5Z"}


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "tcp://[fd00::1]:5555"},
        {"endpoint": "tcp://127.0.0.1:5555", "public_key": None, "http": None},
        {"endpoint": "ipc:///run/headrace/sink", "public_key": None},
        {"a_later_field": {"of": ["any", "kind"]}},
    ],
)
def test_other_forms_that_are_right(file: Path, changes: dict[str, Any]) -> None:
    assert read_announcement(write(file, **changes)).generation == 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "something else"}, "is no announcement; expected a file of"),
        ({"format_version": 2}, "expected format_version 1, found 2; install the same release"),
        ({"role": "trainer"}, "role"),
        ({"endpoint": "tcp://0.0.0.0:5555"}, "nobody can connect to tcp://0.0.0.0:5555; start it with --advertise"),
        ({"endpoint": "tcp://[::]:5555"}, "nobody can connect"),
        ({"endpoint": "tcp://*:5555"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://node7:0"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://node7:65536"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://node7"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://eth0;node7:5555"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://node7:5555\n"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "inproc://zeromq.zap.01"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "ipc://a b"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://" + "x" * 400 + ":1"}, "endpoint"),
        ({"public_key": None}, "can be reached from other machines and has no public_key"),
        ({"public_key": "short"}, "public_key: expected a key of 40 characters"),
        ({"http": "nowhere"}, "expected HOST:PORT"),
        ({"generation": 0}, "generation"),
        ({"generation": "3"}, "generation"),
        ({"generation": 2**53}, "generation"),
        ({"host": "a\x1b[31mb"}, "host"),
        ({"pid": -1}, "pid"),
        ({"version": "1.0 rm -rf"}, "version"),
        ({"protocol": True}, "protocol"),
        ({"started": "yesterday"}, "started"),
        ({"stopped": 0}, "stopped"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_the_file(file: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_announcement(write(file, **changes))
    assert why in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"format", "format_version"}))
def test_a_field_that_is_missing_is_named(file: Path, name: str) -> None:
    file.write_text(json.dumps({key: value for key, value in GOOD.items() if key != name}))
    with pytest.raises(ConfigurationError, match=name):
        read_announcement(file)


def test_half_of_a_file_is_none(file: Path) -> None:
    whole = json.dumps(GOOD).encode()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError, match="no announcement"):
            read_announcement(file)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_garbled_byte_is_an_announcement_or_an_error(file: Path, place: int, byte: int) -> None:
    data = bytearray(json.dumps(GOOD).encode())
    data[place % len(data)] = byte
    file.write_bytes(data)
    try:
        found = read_announcement(file)
    except ConfigurationError:
        return
    assert found.endpoint.startswith(("tcp://", "ipc://"))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "[" * MAX_BYTES, '{"a":' * 2000, "\ufeff{}", "x" * MAX_BYTES])
def test_what_is_no_object_is_none(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="no announcement"):
        read_announcement(file)


def test_what_is_no_small_plain_file_is_neither_read_nor_waited_for(tmp_path: Path, file: Path) -> None:
    with pytest.raises(AnnouncementMissingError, match="there is no"):
        read_announcement(file)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigurationError, match="announcement"):
            read_announcement(path)
    file.write_text(json.dumps({**GOOD, "more": "x" * MAX_BYTES}))
    with pytest.raises(ConfigurationError, match=f"expected at most {MAX_BYTES} bytes"):
        read_announcement(file)


def key(sink: str) -> ClientKey:
    return ClientKey("lab", PUBLIC, PUBLIC, sink)


@pytest.mark.parametrize(
    ("announced", "has", "why"),
    [
        ({}, key(PUBLIC), None),
        ({"role": "inference"}, key(PUBLIC), "expected where the sink is, found where the inference server is"),
        ({"protocol": 2}, key(PUBLIC), r"speaks version 2 \(release 0.1.0\), this client version 1; install the same"),
        ({}, None, "wants a key, and we have none"),
        ({}, key("x" * 40), "nothing is sent there"),
        ({"public_key": None, "endpoint": "tcp://127.0.0.1:1"}, key(PUBLIC), "has no keys, and our key 'lab' is for"),
        ({"public_key": None, "endpoint": "tcp://127.0.0.1:1"}, None, None),
    ],
)
def test_a_client_goes_only_where_it_belongs(announced: dict[str, Any], has: ClientKey | None, why: str | None) -> None:
    found = msgspec.convert({**GOOD, **announced}, Announcement)
    if why is None:
        check_server(found, "sink", 1, has)
        return
    with pytest.raises(ConfigurationError, match=why):
        check_server(found, "sink", 1, has)
