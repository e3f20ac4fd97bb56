"""`headrace train object | goal` on real searches: from a growing dataset to weights that a planner is led by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, DatasetError, HeadraceError, ModelError
from protocol.flags import What
from protocol.published import open_published, version_names
from sink.flagging import Word, add_flag
from tests.datasets import SPEC, Recorded, write_dataset
from tests.processes import Process, SinkProcess, wait_until
from tests.trainer.namo.conftest import SEARCHES, produce
from trainer.namo.examples import ExampleStore, GoalExample, ObjectExample
from trainer.namo.searches import SearchReader
from trainer.namo.tasks import GoalTask, ObjectTask
from trainer.train import main

# Of so few environments, enough for validation.
SHARE = ("--validation-share", "0.4")


def rows(out: Path, event: str) -> list[dict[str, Any]]:
    return [row for line in (out / "log.jsonl").read_text().splitlines() if (row := json.loads(line))["event"] == event]


def test_training_learns_publishes_and_goes_on(searches: Path, tmp_path: Path) -> None:
    out, models = tmp_path / "out", tmp_path / "models"
    words = ("object", "--data", str(searches), "--publish", str(models), "--out", str(out), *SHARE)
    assert main([*words, "--steps", "60", "--device", "cpu"]) == 0
    evaluated = rows(out, "evaluated")
    assert [row["step"] for row in evaluated] == [50, 60]
    assert evaluated[-1]["training_loss"] < evaluated[0]["training_loss"]
    assert {"top1", "mrr", "nearest_top1", "nearest_mrr", "random_top1", "random_mrr"} <= evaluated[0].keys()
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    (version,) = version_names(models, "object")
    manifest = open_published(models, "object").manifest
    assert rows(out, "published")[0]["version"] == version == manifest.version
    assert f"{SEARCHES} searches" in manifest.trained_on
    assert "namo/two_rooms_easy" in manifest.trained_on
    assert main([*words, "--steps", "80", "--device", "cpu", "--resume"]) == 0
    assert [row["step"] for row in rows(out, "evaluated")] == [50, 60, 80]
    with pytest.raises(ConfigurationError, match="the checkpoint is of ObjectModel"):
        main(["goal", *words[1:], "--steps", "80", "--resume"])


def test_the_same_seed_gives_the_same_weights(searches: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        words = ("--publish", str(tmp_path / name), "--out", str(tmp_path / f"{name}-out"), *SHARE, "--device", "cpu")
        assert main(["goal", "--data", str(searches), *words, "--steps", "20"]) == 0
        digests.append(open_published(tmp_path / name, "goal").manifest.sha256)
    assert digests[0] == digests[1]


def test_a_loss_that_is_nan_stops_and_publishes_nothing(searches: Path, tmp_path: Path) -> None:
    words = ("--publish", str(tmp_path / "models"), "--out", str(tmp_path / "out"), *SHARE, "--device", "cpu")
    with pytest.raises(ModelError, match=r"loss is (nan|inf) at step \d+: stopped"):
        main(["goal", "--data", str(searches), *words, "--lr", "1e30"])
    assert not (tmp_path / "models").exists()


def test_what_is_read_of_every_search(searches: Path) -> None:
    objects: ExampleStore[ObjectExample] = ExampleStore(0.4, 1000)
    goals: ExampleStore[GoalExample] = ExampleStore(0.4, 1000)
    reader = SearchReader(searches)
    for search in reader.new_searches():
        objects.add(search.source, search.environment, ObjectTask().read(search))
        goals.add(search.source, search.environment, GoalTask().read(search))
        for example in ObjectTask().read(search):
            assert example.reachable[example.known].all()
            assert np.isclose(example.wanted.sum(), 1)
    reader.close()
    with DatasetView(searches) as view:
        steps = sum(episode.steps for episode in view.new_episodes())
    # An iterative deepening search opens the goal once: what helped is its plan.
    assert objects.added == goals.added == steps > 0
    assert reader.seen.searches == SEARCHES


def test_a_damaged_search_is_left_out_and_counted(searches: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(searches, tmp_path / "copy"))
    with DatasetView(copy) as view:
        episode = list(view.new_episodes())[3]
        place = episode.shard.layout.offsets["blob"] + int(episode.row["attributes_offset"])
        with episode.shard.layout.path.open("r+b") as file:
            file.seek(place)
            file.write(b"}" * 8)
    reader = SearchReader(copy)
    assert len(list(reader.new_searches())) == SEARCHES - 1
    assert (reader.seen.searches, reader.seen.damaged) == (SEARCHES, 1)
    reader.close()


def test_a_discarded_search_is_not_given_is_withdrawn_and_is_given_again_when_it_is_kept(
    searches: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(searches, tmp_path / "copy"))
    reader = SearchReader(copy)
    (stream,) = reader.names()

    def say(what: What, *indices: int) -> None:
        add_flag(copy, stream, Word(what, indices, "not real"))

    def given() -> list[int]:
        return [search.source[1] for search in reader.new_searches()]

    say("discard", 1, 2)
    assert sorted(given()) == [index for index in range(SEARCHES) if index not in (1, 2)]
    assert (reader.withdrawn, reader.seen.discarded) == (set(), 2)
    say("discard", 0)
    say("keep", 1)
    assert given() == [1]
    assert (reader.withdrawn, reader.seen.discarded) == ({(stream, 0)}, 2)
    reader.withdrawn.clear()
    say("keep", 0, 1, 2, 3)
    assert sorted(given()) == [0, 2]
    assert (given(), reader.withdrawn, reader.seen.discarded) == ([], set(), 0)
    say("discard", 3)
    say("keep", 3)
    assert (given(), reader.withdrawn) == ([], set()), "as if nothing had been said"
    reader.close()


def test_follow_waits_for_data_publishes_and_reads_on(tmp_path: Path) -> None:
    data, models, out = tmp_path / "data", tmp_path / "models", tmp_path / "out"
    follow = ("--follow", "--publish-every", "0", "--patience", "2", "--device", "cpu", "--threads", "1", *SHARE)
    train = ("train", "object", "--data", data, "--publish", models, "--out", out, *follow)
    with Process("-m", "deploy.main", *train) as trainer:
        trainer.says("waiting: .* is not there yet")
        with SinkProcess(data).ready() as sink:
            produce(sink.endpoint, "--workers", "2", "--end-idx", "6")
            trainer.says("published object 000001-")
            produce(sink.endpoint, "--workers", "1", "--start-idx", "6", "--end-idx", "8")
            assert sink.terminate() == 0
        wait_until(lambda: "read 8 searches" in trainer.output, "the new searches are read", 60)
        with DatasetView(data) as view:
            add_flag(data, view.streams[0], Word("discard", [0, 1], "not real"))
        wait_until(lambda: "2 searches were discarded; " in trainer.output, "the discarded ones are taken out", 60)
        assert trainer.terminate() == 130, trainer.output
    assert {row["version"] for row in rows(out, "published")} == set(version_names(models, "object"))


def test_bad_input_is_one_clear_sentence(searches: Path, tmp_path: Path) -> None:
    other, empty = tmp_path / "other", tmp_path / "empty"
    write_dataset(other, [Recorded(0)])
    empty.mkdir()
    out = ("--out", str(tmp_path / "out"))
    cases: list[tuple[type[HeadraceError], str, list[str]]] = [
        (DatasetError, "is no directory", ["--data", str(tmp_path / "nothing")]),
        (ConfigurationError, "found 0 and 0 in 0 searches.*--follow", ["--data", str(empty)]),
        (DatasetError, f"no stream of searches .* it has: {SPEC.name}", ["--data", str(other)]),
        (DatasetError, f"stream '{SPEC.name}' holds no searches", ["--data", str(other), "--stream", SPEC.name]),
        (DatasetError, "no stream 'namo/x'; it has: namo/two", ["--data", str(searches), "--stream", "namo/x"]),
        (ConfigurationError, "--lr 0: expected more", ["--data", str(searches), "--lr", "0"]),
        (ConfigurationError, "--validation-share 1: expected", ["--data", str(searches), "--validation-share", "1"]),
        (ConfigurationError, "--batch-size 0: expected at", ["--data", str(searches), "--batch-size", "0"]),
        (ConfigurationError, "--resume: .* is not there", ["--data", str(searches), "--resume"]),
        (ModelError, "expected as the name of a model", ["--data", str(searches), "--name", "a/b"]),
    ]
    if not torch.cuda.is_available():
        cases.append((ConfigurationError, "finds no CUDA device", ["--data", str(searches), "--device", "cuda"]))
    for kind, text, words in cases:
        with pytest.raises(kind, match=text):
            main(["object", *words, *out])
