"""Publishing: whole versions only, whoever reads and whenever the writer dies."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from protocol.errors import ModelError
from protocol.published import CURRENT, VERSIONS, WEIGHTS, Manifest, current_version, open_published, version_names
from trainer import whole_files
from trainer.version_files import rollback, set_current, write_version


def weights(number: int) -> bytes:
    return save({"w": np.full(1000, number, np.float32)})


def manifest() -> Manifest:
    return Manifest(
        format=1,
        name="object",
        kind="object",
        architecture="ObjectModel",
        config={},
        version="",
        parameters=1000,
        bytes=1,
        sha256="0" * 64,
        created="",
    )


def publish_many(models: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        write_version(models, manifest(), weights(number))


def test_a_reader_sees_whole_versions_only(tmp_path: Path) -> None:
    """Another process publishes 200 versions while this one opens what is current, again and again."""
    publish_many(tmp_path, 0, 1)
    writer = multiprocessing.get_context("spawn").Process(target=publish_many, args=(tmp_path, 1, 200))
    writer.start()
    seen = []
    while (alive := writer.is_alive()) or not seen or seen[-1] != 200:
        found = open_published(tmp_path, "object")
        values = np.unique(load(found.weights())["w"])
        assert len(values) == 1
        seen.append(int(values[0]))
        if not alive and seen[-1] != 200:
            break
    writer.join()
    assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert seen[-1] == 200
    assert len(set(seen)) > 2
    assert len(version_names(tmp_path, "object")) == 201


def test_writers_that_do_not_know_of_each_other(tmp_path: Path) -> None:
    threads = [threading.Thread(target=publish_many, args=(tmp_path, 0, 10)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = version_names(tmp_path, "object")
    assert len(versions) == 30
    assert current_version(tmp_path, "object") in versions
    for version in versions:
        open_published(tmp_path, "object", version)


class Died(BaseException):
    """The program ends here."""


@pytest.mark.parametrize("step", range(12))
def test_a_writer_that_dies(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any of its calls to the system: what was current stays current, or the new version is, whole."""
    publish_many(tmp_path, 1, 1)
    before = current_version(tmp_path, "object")
    left = step
    with monkeypatch.context() as patch:
        for call in ("fsync", "rename", "replace"):
            real = getattr(os, call)

            def dying(*words: object, real: object = real) -> None:
                nonlocal left
                if left == 0:
                    raise Died
                left -= 1
                real(*words)  # type: ignore[operator]

            patch.setattr(whole_files.os, call, dying)
        patch.setattr(whole_files.shutil, "rmtree", lambda *_, **__: None)
        try:
            write_version(tmp_path, manifest(), weights(2))
            died = False
        except Died:
            died = True
    assert died == (step < 8)
    found = open_published(tmp_path, "object")
    assert died or found.manifest.version != before
    assert np.unique(load(found.weights())["w"]) == (1 if found.manifest.version == before else 2)
    publish_many(tmp_path, 3, 1)
    assert np.unique(load(open_published(tmp_path, "object").weights())["w"]) == 3


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_many(tmp_path, 1, 1)
    before = current_version(tmp_path, "object")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole_files.os, "fsync", full)
        with pytest.raises(ModelError, match=r"cannot publish a version \(No space left on device\)"):
            write_version(tmp_path, manifest(), weights(2))
    assert current_version(tmp_path, "object") == before
    assert [entry.name for entry in (tmp_path / "object" / VERSIONS).iterdir()] == [before]


def test_rolling_back(tmp_path: Path) -> None:
    publish_many(tmp_path, 1, 4)
    first, second, third, fourth = version_names(tmp_path, "object")
    assert current_version(tmp_path, "object") == fourth
    assert rollback(tmp_path, "object") == third
    (tmp_path / "object" / VERSIONS / second / WEIGHTS).write_bytes(b"damaged")
    assert rollback(tmp_path, "object") == first
    with pytest.raises(ModelError, match=f"no version before {first}"):
        rollback(tmp_path, "object")
    with pytest.raises(ModelError, match=second):
        rollback(tmp_path, "object", second)
    assert current_version(tmp_path, "object") == first
    assert rollback(tmp_path, "object", fourth) == current_version(tmp_path, "object") == fourth
    publish_many(tmp_path, 5, 1)
    assert current_version(tmp_path, "object").startswith("000005-")


def test_the_pointer_is_text(tmp_path: Path) -> None:
    publish_many(tmp_path, 1, 2)
    digest = hashlib.sha256(weights(1)).hexdigest()[:8]
    set_current(tmp_path, "object", f"000001-{digest}")
    assert (tmp_path / "object" / CURRENT).read_text() == f"000001-{digest}\n"


def test_what_a_dead_writer_left_is_removed_after_a_while(tmp_path: Path) -> None:
    publish_many(tmp_path, 1, 1)
    versions = tmp_path / "object" / VERSIONS
    old, new = versions / ".draft-old", versions / ".draft-new"
    for draft in (old, new):
        draft.mkdir()
        (draft / WEIGHTS).write_bytes(b"half")
    past = time.time() - whole_files.OLD_DRAFT_S - 60
    os.utime(old, (past, past))
    publish_many(tmp_path, 2, 1)
    assert sorted(entry.name for entry in versions.iterdir()) == [".draft-new", *version_names(tmp_path, "object")]
