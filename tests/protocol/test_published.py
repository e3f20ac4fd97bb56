"""Reading published weights: sound ones, and all that is not."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from protocol import published, tensor_file
from protocol.errors import ModelError
from protocol.published import (
    CURRENT,
    MANIFEST,
    VERSIONS,
    WEIGHTS,
    Manifest,
    check_name,
    current_version,
    model_names,
    open_published,
    version_names,
)
from trainer.version_files import write_version

WEIGHT = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def manifest(name: str = "goal", parameters: int = 8) -> Manifest:
    return Manifest(
        format=1,
        name=name,
        kind="goal",
        architecture="GoalModel",
        config={"width": 8},
        version="",
        parameters=parameters,
        bytes=1,
        sha256="0" * 64,
        created="",
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A directory with two versions of one model."""
    write_version(tmp_path, manifest(), save(WEIGHT))
    write_version(tmp_path, manifest(), save({**WEIGHT, "b": np.zeros(2, np.float32)}))
    return tmp_path


def folder(models: Path) -> Path:
    """That of the current version."""
    return models / "goal" / VERSIONS / current_version(models, "goal")


def edit(models: Path, **changes: Any) -> None:
    """Change the manifest of the current version."""
    path = folder(models) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(models: Path, *said: str) -> None:
    """Opening ends in one ModelError that says where, and each of `said`."""
    with pytest.raises(ModelError) as error:
        open_published(models, "goal")
    message = str(error.value)
    assert str(models) in message
    assert "\n" not in message.strip()
    assert all(words in message for words in said), message


def test_what_was_written_is_read(models: Path) -> None:
    found = open_published(models, "goal")
    assert found.manifest.version == version_names(models, "goal")[-1] == current_version(models, "goal")
    assert found.manifest.version.startswith("000002-")
    assert found.weights() == (found.folder / WEIGHTS).read_bytes()
    assert model_names(models) == ["goal"]
    first = version_names(models, "goal")[0]
    assert open_published(models, "goal", first).manifest.version == first


# --- weights ----------------------------------------------------------------------------------------------------


def cut_short(data: bytes) -> bytes:
    return data[:-1]


def cut_in_header(data: bytes) -> bytes:
    return data[:20]


def emptied(_: bytes) -> bytes:
    return b""


def lengthened(data: bytes) -> bytes:
    return data + bytes(4)


def flipped(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize("damage", [cut_short, cut_in_header, emptied, lengthened, flipped])
def test_damaged_weights(models: Path, damage: Callable[[bytes], bytes]) -> None:
    path = folder(models) / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    refused(models, WEIGHTS, "expected", "found", "publish it again")


def test_weights_are_checked_again_when_they_are_taken(models: Path) -> None:
    found = open_published(models, "goal")
    path = found.folder / WEIGHTS
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(ModelError, match="SHA-256"):
        found.weights()


def test_weights_that_are_too_large_are_not_read(models: Path) -> None:
    path = folder(models) / WEIGHTS
    os.truncate(path, 1 << 40)  # sparse: takes no disk
    refused(models, WEIGHTS, f"found {1 << 40}")


def test_a_manifest_cannot_promise_more_than_the_limit(models: Path) -> None:
    edit(models, bytes=published.MAX_WEIGHT_BYTES + 1)
    refused(models, MANIFEST, "$.bytes")


def write_weights(models: Path, data: bytes, parameters: int = 8) -> None:
    """A version whose checksum is right and whose content is what a stranger wants."""
    edit(models, bytes=len(data), sha256=published.hashlib.sha256(data).hexdigest(), parameters=parameters)
    (folder(models) / WEIGHTS).write_bytes(data)


def with_header(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<Q", 1 << 60) + b"{}", "header of at most"),
        (b"short", "safetensors"),
        (with_header(b"\x80\x04pickle", b""), "header"),
        (with_header(b"[" * 100_000, b""), "header"),
        (with_header({"a": entry([8], 0, 32, "BF16")}, bytes(32)), "dtype F32"),
        (with_header({"a": entry([8], 4, 36)}, bytes(36)), "expected bytes (0, 32)"),
        (with_header({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, bytes(24)), "expected bytes (16, 32)"),
        (with_header({"a": entry([8], 0, 16)}, bytes(16)), "expected bytes (0, 32)"),
        (with_header({"a": entry([1 << 30, 1 << 30], 0, 32)}, bytes(32)), "expected bytes"),
        (with_header({"a": entry([-8], 0, 32)}, bytes(32)), "header"),
        (with_header({"a": entry([8], 0, 32)}, bytes(40)), "expected 32 bytes of tensors, found 40"),
        (with_header({"a": entry([7], 0, 28)}, bytes(28)), "8 parameters, found 7"),
        (with_header({str(i): entry([0], 0, 0) for i in range(tensor_file.MAX_TENSORS + 1)}, b""), "at most 4096"),
        (with_header({"a": {**entry([8], 0, 32), "code": "x"}}, bytes(32)), "header"),
    ],
)
def test_weights_of_a_stranger(models: Path, data: bytes, said: str) -> None:
    write_weights(models, data)
    refused(models, WEIGHTS, said)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_refused_or_fill_the_file(models: Path, data: st.DataObject) -> None:
    raw = bytearray(save(WEIGHT))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    write_weights(models, bytes(raw))
    try:
        open_published(models, "goal")
    except ModelError:
        return
    entries = tensor_file.check_tensors(models, bytes(raw), 8)
    assert sum(e.data_offsets[1] - e.data_offsets[0] for e in entries.values()) == 32


# --- manifests and pointers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "manifest"),
        (b"{", "manifest"),
        (b"\xff\xfe", "manifest"),
        (b"[" * 60_000, "manifest"),
        (b"{}", "missing required field"),
        (b" " * (published.MAX_MANIFEST_BYTES + 1), "at most"),
    ],
)
def test_a_manifest_that_is_none(models: Path, text: bytes, said: str) -> None:
    (folder(models) / MANIFEST).write_bytes(text)
    refused(models, MANIFEST, said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"kind": "act"}, "kind"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"sha256": "0" * 64}, "expected SHA-256 0000"),
        ({"parameters": 7}, "7 parameters, found 8"),
        ({"parameters": 0}, "parameters"),
        ({"name": "other"}, "expected model 'goal'"),
        ({"version": "000009-aaaaaaaa"}, "found 'goal' '000009-aaaaaaaa'"),
        ({"config": {"width": "8"}}, "config"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_does_not_fit(models: Path, changes: dict[str, Any], said: str) -> None:
    edit(models, **changes)
    refused(models, said)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"../000001", b"/etc", b"a/b", b".draft-x", b"..", b"x\0y", b"\xff", b"000001\n\n", b"v" * 65]
)
def test_a_pointer_that_is_none(models: Path, text: bytes) -> None:
    (models / "goal" / CURRENT).write_bytes(text)
    refused(models, CURRENT, "headrace models rollback")


def test_a_pointer_that_is_too_long(models: Path) -> None:
    (models / "goal" / CURRENT).write_bytes(b"v" * 10_000)
    refused(models, CURRENT, "at most 256 bytes, found 10000")


def test_a_pointer_to_nothing(models: Path) -> None:
    (models / "goal" / CURRENT).write_text("000077-aaaaaaaa\n")
    refused(models, "found no folder", "headrace models list")


# --- tricks with paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../goal", "/goal", "a/b", "goal\n", "a\0b", ".hidden", "-x", "é", "x" * 65]
)
def test_names_that_mean_other_places(models: Path, name: str) -> None:
    for attempt in (
        lambda: check_name(name),
        lambda: current_version(models, name),
        lambda: version_names(models, name),
        lambda: open_published(models, name),
        lambda: open_published(models, "goal", name),
        lambda: write_version(models, manifest(name), save(WEIGHT)),
    ):
        with pytest.raises(ModelError, match="expected as the name of a"):
            attempt()


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_links_are_not_followed(models: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = folder(models) / name
    elsewhere = tmp_path_factory.mktemp("elsewhere") / name
    os.replace(path, elsewhere)
    path.symlink_to(elsewhere)
    refused(models, name, "expected a plain file")


def test_a_linked_version(models: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = folder(models)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "version"
    os.rename(path, elsewhere)
    path.symlink_to(elsewhere)
    refused(models, "found a link")


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_a_pipe_is_not_waited_for(models: Path, name: str) -> None:
    path = folder(models) / name
    path.unlink()
    os.mkfifo(path)
    refused(models, name, "expected a plain file")


def test_a_missing_file(models: Path) -> None:
    (folder(models) / WEIGHTS).unlink()
    refused(models, WEIGHTS, "No such file")


def test_what_is_there_is_said(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no such model; .* has goal$"):
        current_version(models, "gaol")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="headrace models init"):
        current_version(tmp_path / "empty", "goal")
    with pytest.raises(ModelError, match="cannot list models"):
        model_names(tmp_path / "nowhere")


# --- what SPEC.md says ------------------------------------------------------------------------------------------


def test_the_specification_says_the_same(models: Path) -> None:
    document = (Path(published.__file__).parent / "SPEC.md").read_text()
    text = document.split("## 7. Published weights")[1].split("\n## ")[0]
    fields = re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
    written = json.loads((folder(models) / MANIFEST).read_text())
    kinds = {int: "int", str: "str", dict: "map"}
    assert fields == [(name, kinds[type(value)]) for name, value in written.items()]
    assert f"`format` | int | {published.FORMAT} |" in text
    assert all(name in text for name in (CURRENT, VERSIONS, MANIFEST, WEIGHTS))
    assert f"at most {published.MAX_POINTER_BYTES} bytes" in text
    limits = published.MAX_WEIGHT_BYTES, published.MAX_MANIFEST_BYTES, tensor_file.MAX_HEADER_BYTES
    assert limits == (1 << 30, 64 << 10, 1 << 20)
    assert "at most 1 GiB" in text
    assert f"at most 64 KiB, the header of the weights 1 MiB and {tensor_file.MAX_TENSORS} tensors" in text
