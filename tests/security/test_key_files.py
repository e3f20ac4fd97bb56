"""Key files: what is read, what is refused and in which words; and every path of `headrace keys`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from deploy.main import main
from producers.link import chosen_key
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey, SinkKey, check_key, check_name, read_allowed, read_client_key, read_sink_key
from tests.security.key_ring import KeyRing

STRANGE_NAMES = ["", ".", "..", "../sink", "a/b", "/etc/passwd", "-rf", ".hidden", "a b", "a\nb", "a\0b", "ä", "x" * 65]


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- names and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_name_that_is_a_path_or_a_flag_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a key"):
        check_name(name)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_of_32_bytes_is_one(data: bytes) -> None:
    check_key(z85.encode(data).decode(), "here")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "found 0"),
        ("0" * 39, "found 39"),
        ("0" * 41, "found 41"),
        ("0" * 39 + "~", "a character that Z85 does not have"),
        ("0" * 39 + "é", "a character that Z85 does not have"),
        ("0" * 35 + "#####", "characters 35 to 39 are no Z85 of four bytes"),
    ],
)
def test_what_is_no_key_is_refused_with_its_place_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_key(text, "/some/file")
    assert str(raised.value).startswith("/some/file: ")
    assert why in str(raised.value)
    assert not text or text not in str(raised.value)


# --- files ------------------------------------------------------------------------------------------------------------


def test_secrets_are_in_no_repr(keys: KeyRing) -> None:
    client = read_client_key(keys.client())
    assert client.secret not in repr(client)
    assert keys.sink.secret not in repr(keys.sink)


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o620, 0o602, 0o644])
def test_a_secret_that_others_can_reach_is_refused_with_the_command_that_mends_it(keys: KeyRing, bits: int) -> None:
    for path, read in ((keys.client(), read_client_key), (keys.path / "sink.key", lambda _: read_sink_key(keys.path))):
        path.chmod(bits)
        with pytest.raises(ConfigurationError) as raised:
            read(path)
        assert str(raised.value).endswith(f"chmod 600 {path}")
        path.chmod(0o400)
        read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that root owns")
def test_roots_file_may_be_read_by_a_group_as_in_a_container(keys: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keys.client()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for bits in (0o600, 0o640, 0o440):
        path.chmod(bits)
        assert read_client_key(path).name == "lab"
    for bits in (0o660, 0o644, 0o642):
        path.chmod(bits)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            read_client_key(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"{",
        lambda _: b"[]",
        lambda _: os.urandom(300),
        lambda data: data[:-20],
        lambda data: data.replace(b'"public"', b'"publik"'),
        lambda data: data.replace(b'"sink": "', b'"sink": "x'),
        lambda data: data.replace(b'"name": "lab"', b'"name": "../lab"'),
        lambda data: data.replace(b"{", b'{"more": 1,', 1),
    ],
)
def test_a_malformed_file_is_refused_by_its_name(keys: KeyRing, spoil: Callable[[bytes], bytes]) -> None:
    path = keys.client()
    secret = read_client_key(path).secret
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ConfigurationError) as raised:
        read_client_key(path)
    assert str(path) in str(raised.value) or "cannot name a key" in str(raised.value)
    assert secret not in str(raised.value)


def test_what_follows_4_kib_is_not_read(keys: KeyRing) -> None:
    path = keys.client()
    key = read_client_key(path)
    path.write_bytes(path.read_bytes() + b" " * 5000 + b"x")
    assert read_client_key(path) == key


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigurationError, match=r"is no key file; expected a NAME\.key that"):
            read_client_key(path)


def test_halves_of_two_pairs_are_refused(keys: KeyRing) -> None:
    path = keys.client()
    public = zmq.curve_keypair()[0].decode()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(read_client_key(path), public=public)))
    with pytest.raises(ConfigurationError, match="is not that of the secret key"):
        chosen_key(path)


def test_only_pub_files_count_and_drafts_do_not(keys: KeyRing) -> None:
    keys.client("one")
    allowed = keys.path / "allowed"
    public = (allowed / "one.pub").read_text()
    for name in ("two.pub~", ".three.pub.7.draft", "README", "four"):
        (allowed / name).write_text(public)
    assert read_allowed(keys.path) == ({public.strip(): "one"}, [])


# --- the command ------------------------------------------------------------------------------------------------------


class Command:
    """`headrace keys`, with what it said."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: str | Path, status: int = 0) -> str:
        """Run it; returns stdout, or stderr if it is to fail."""
        assert main(["keys", *map(str, words)]) == status
        said = self._capture.readouterr()
        assert "Traceback" not in said.err
        return said.err if status else said.out


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_new_makes_a_directory_that_a_sink_and_a_producer_can_use(command: Command, tmp_path: Path) -> None:
    keys = tmp_path / "deep" / "keys"
    said = command("new", keys)
    made = read_sink_key(keys)
    assert made.public in said
    assert made.secret not in said
    assert f"headrace keys new {keys} --client NAME" in said
    said = command("new", keys, "--client", "lab-2")
    assert files(keys) == ["allowed/lab-2.pub", "clients/lab-2.key", "sink.key"]
    client = chosen_key(keys / "clients" / "lab-2.key")
    assert client is not None
    assert client.sink == made.public
    assert client.secret not in said
    assert read_allowed(keys) == ({client.public: "lab-2"}, [])
    assert [mode(path) for path in (keys, keys / "sink.key", keys / "clients" / "lab-2.key")] == [0o700, 0o600, 0o600]


def test_new_replaces_nothing(command: Command, keys: KeyRing) -> None:
    path = keys.client()
    before = {name: (keys.path / name).read_bytes() for name in files(keys.path)}
    assert "would shut out every producer" in command("new", keys.path, status=1)
    assert f"{path} is there already" in command("new", keys.path, "--client", "lab", status=1)
    path.unlink()
    assert "allows another key as 'lab'" in command("new", keys.path, "--client", "lab", status=1)
    path.write_bytes(before["clients/lab.key"])
    assert {name: (keys.path / name).read_bytes() for name in files(keys.path)} == before


def test_a_producer_may_make_its_own_pair(command: Command, keys: KeyRing, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    said = command("new", mine, "--client", "lab", "--sink", keys.sink.public)
    client = read_client_key(mine / "clients" / "lab.key")
    assert client.sink == keys.sink.public
    assert files(mine) == ["clients/lab.key"]
    assert f"headrace keys allow KEYS lab '{client.public}'" in said or client.public in said
    command("allow", keys.path, "lab", client.public)
    assert read_allowed(keys.path)[0] == {client.public: "lab"}
    assert "goes with --client" in command("new", mine, "--sink", keys.sink.public, status=1)
    assert "found 3" in command("new", mine, "--client", "x", "--sink", "abc", status=1)


def test_allow_refuses_what_is_allowed_already(command: Command, keys: KeyRing) -> None:
    public = read_client_key(keys.client()).public
    assert "allowed already, as 'lab'" in command("allow", keys.path, "again", public, status=1)
    other = "0" * 40
    assert "lab.pub is there already" in command("allow", keys.path, "lab", other, status=1)
    assert "expected a key of 40 characters" in command("allow", keys.path, "short", "abc", status=1)
    assert read_allowed(keys.path)[0] == {public: "lab"}


def test_revoke_and_list(command: Command, keys: KeyRing) -> None:
    assert "nobody is allowed yet" in command("list", keys.path)
    public = {name: read_client_key(keys.client(name)).public for name in ("b", "a")}
    listed = command("list", keys.path).splitlines()
    assert listed[0].split() == ["(sink)", keys.sink.public]
    assert [line.split()[:2] for line in listed[1:]] == [["a", public["a"]], ["b", public["b"]]]
    command("revoke", keys.path, "a")
    assert "allows no 'a'" in command("revoke", keys.path, "a", status=1)
    found = json.loads(command("list", keys.path, "--json"))
    assert found["sink"] == keys.sink.public
    assert [(client["name"], client["public"]) for client in found["clients"]] == [("b", public["b"])]
    assert found["clients"][0]["allowed_s"] == pytest.approx((keys.path / "allowed" / "b.pub").stat().st_mtime)


def test_list_names_files_that_do_not_count(command: Command, keys: KeyRing) -> None:
    (keys.path / "allowed" / "bad.pub").write_text("rubbish")
    assert "bad.pub does not count: " in command("list", keys.path, status=1)


@pytest.mark.parametrize("name", [name for name in STRANGE_NAMES if name and not name.startswith("-")])
def test_a_name_leads_nowhere_else(command: Command, keys: KeyRing, name: str) -> None:
    before = files(keys.path.parent)
    for words in (
        ("new", keys.path, "--client", name),
        ("allow", keys.path, name, "0" * 40),
        ("revoke", keys.path, name),
    ):
        assert "cannot name a key" in command(*words, status=1)
    assert files(keys.path.parent) == before


@pytest.mark.parametrize("word", ["allow", "list", "revoke"])
def test_a_directory_without_keys(command: Command, tmp_path: Path, word: str) -> None:
    rest = {"allow": ("lab", "0" * 40), "list": (), "revoke": ("lab",)}[word]
    assert "headrace keys" in command(word, tmp_path / "none", *rest, status=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make" in command("new", tmp_path / "file" / "keys", status=1)


def test_the_form_of_the_files_is_what_the_document_says(keys: KeyRing) -> None:
    """SPEC.md, section 6.1."""
    client = json.loads(keys.client().read_text())
    assert sorted(client) == sorted(ClientKey.__struct_fields__) == ["name", "public", "secret", "sink"]
    sink = json.loads((keys.path / "sink.key").read_text())
    assert sorted(sink) == sorted(SinkKey.__struct_fields__) == ["public", "secret"]
    assert (keys.path / "allowed" / "lab.pub").read_text() == client["public"] + "\n"
