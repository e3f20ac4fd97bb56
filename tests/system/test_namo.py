"""NAMO end to end: a real sink, real workers that are killed, scenes in MuJoCo, one broken file among them."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.main import main as headrace
from producers.namo.generator.generate import generate
from producers.namo.mjcf_writer import write_mjcf
from protocol.dataset_view import DatasetView
from protocol.jpeg import decode
from protocol.messages import Outcome
from protocol.namo.episodes import PUSH_CODES, attempts_of, scene_of, state_after, state_before
from protocol.namo.scene import State
from protocol.namo.wavefront import Wavefront
from protocol.shard_view import EpisodeView
from tests.processes import Process, SinkProcess, wait_until

SCENES, EPISODES, BROKEN = 4, 2, 2
STREAM = f"namo/scenes_x{EPISODES}"
LIMIT_S = 240.0
# Budgets that are the same on a busy machine; the time-out never fires.
FLAGS = ("--max-pushes", "40", "--search-timeout", "900", "--max-depth", "2", "--episodes-per-env", str(EPISODES))
# What may differ between two runs: who, where and how long.
VOLATILE = ("host", "time")


@dataclass(frozen=True)
class Collection:
    """Two datasets of the same searches: by one worker, and by two that were killed once."""

    scenes: Path
    calm: Path
    rough: Path


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("namo")
    made = Collection(root / "scenes", root / "calm", root / "rough")
    made.scenes.mkdir()
    for number in range(SCENES):
        template, difficulty = ("two_rooms", "easy") if number < BROKEN else ("four_rooms", "hard")
        scene = generate(template, difficulty, 5, number).scene
        text = write_mjcf(scene)
        (made.scenes / f"env_{number}.xml").write_text(text[:400] if number == BROKEN else text)
    with SinkProcess(made.calm).ready() as sink, produce(made, sink.endpoint, 1) as producers:
        finish(producers)
        assert sink.terminate() == 0
    with SinkProcess(made.rough).ready() as sink:
        with produce(made, sink.endpoint, 2) as producers:
            wait_until(lambda: committed(made.rough) >= 2 or ended(producers), "two searches", LIMIT_S)
            os.kill(producers.child.pid, signal.SIGKILL)  # the kernel ends its workers
        before = committed(made.rough)
        assert before < SCENES * EPISODES, "there is nothing left to do after the kill"
        with produce(made, sink.endpoint, 2) as producers:
            finish(producers)
        assert sink.terminate() == 0
    return made


def produce(made: Collection, endpoint: str, workers: int) -> Process:
    words = ("--sink", endpoint, "--workers", str(workers), "--xml-dir", made.scenes, "--plain", *FLAGS)
    return Process("-m", "deploy.main", "produce", "namo", *words)


def ended(producers: Process) -> bool:
    return producers.child.poll() is not None


def finish(producers: Process) -> None:
    wait_until(lambda: ended(producers), "the collection ends", LIMIT_S)
    assert producers.wait() == 0, producers.output


def committed(data: Path) -> int:
    if not data.exists():
        return 0
    with DatasetView(data) as view:
        return len(list(view.new_episodes()))


@pytest.fixture
def calm(collection: Collection) -> Iterator[dict[int, EpisodeView]]:
    with DatasetView(collection.calm) as view:
        yield {episode.index: episode for episode in view.new_episodes()}


@pytest.fixture
def rough(collection: Collection) -> Iterator[dict[int, EpisodeView]]:
    with DatasetView(collection.rough) as view:
        episodes = list(view.new_episodes())
        assert len({episode.index for episode in episodes}) == len(episodes)
        yield {episode.index: episode for episode in episodes}


def test_every_search_is_stored_once_whatever_died(rough: Mapping[int, EpisodeView], collection: Collection) -> None:
    assert sorted(rough) == list(range(SCENES * EPISODES))
    assert headrace(["verify", str(collection.rough)]) == 0


def test_an_index_is_the_same_search_whoever_runs_it(
    calm: Mapping[int, EpisodeView], rough: Mapping[int, EpisodeView]
) -> None:
    for index, one in calm.items():
        other = rough[index]
        assert (one.outcome, one.steps) == (other.outcome, other.steps)
        for column in one.shard.spec.columns if one.steps else ():
            np.testing.assert_array_equal(one.column(column.name), other.column(column.name))
        for step in range(one.steps):
            assert one.frame("top_down", step) == other.frame("top_down", step)
        assert stable(one) == stable(other)


def stable(episode: EpisodeView) -> dict[str, Any]:
    attributes = {name: value for name, value in episode.attributes().items() if name not in VOLATILE}
    attributes.get("ml", {}).pop("seconds", None)
    return {**attributes, "record": {**attributes["record"], "search_time_ms": None}}


def test_some_are_solved_and_their_steps_are_the_plan(calm: Mapping[int, EpisodeView]) -> None:
    solved = [episode for episode in calm.values() if episode.outcome is Outcome.SUCCESS]
    assert len(solved) >= 2
    for episode in solved:
        attributes = episode.attributes()
        scene, record = scene_of(attributes), attributes["record"]
        wavefront = Wavefront(scene)
        assert attributes["success"]
        assert attributes["verified"]
        assert record["solution_depth"] == episode.steps == len(record["action_sequence"])
        assert state_before(episode, scene, 0).key == State.initial(scene).key
        for step in range(episode.steps):
            after = state_after(episode, scene, step)
            opened = wavefront.reach(after).goal_open
            assert bool(episode.column("goal_open")[step]) is opened is (step == episode.steps - 1)
            place = int(episode.column("object")[step])
            assert record["action_sequence"][step]["object_id"] == scene.movables[place].name
            assert record["action_sequence"][step]["target"] == episode.column("target")[step].tolist()
            np.testing.assert_array_equal(episode.column("achieved")[step], after.movables[place])
            if step + 1 < episode.steps:
                assert state_before(episode, scene, step + 1).key == after.key
        assert PUSH_CODES[episode.column("code")[-1]] == "goal_open"
        movables = episode.column("observations/movables")
        assert np.isfinite(movables[:, : len(scene.movables)]).all()
        assert np.isnan(movables[:, len(scene.movables) :]).all()
        assert decode(episode.frame("top_down", 0)).shape == (224, 224, 3)


def test_every_attempt_is_kept_also_of_searches_that_failed(calm: Mapping[int, EpisodeView]) -> None:
    ran = [episode for episode in calm.values() if episode.index // EPISODES != BROKEN]
    assert any(episode.outcome is Outcome.VOID for episode in ran), "all searches were solved; make the scenes harder"
    for episode in ran:
        attributes = episode.attributes()
        scene, table = scene_of(attributes), attempts_of(attributes)
        assert len(table) == attributes["attempts"]["count"] > 0
        before, after = table.states(scene)
        wavefront = Wavefront(scene)
        for row in range(len(table)):
            # The table is rounded, and an opening may be as narrow as that.
            if before[row].key != State.initial(scene).key:
                assert table.parent[row] >= 0
            np.testing.assert_array_equal(after[row].movables[table.object[row]], table.achieved[row])
        opened = [row for row in range(len(table)) if table.goal_open[row]]
        assert bool(opened) is attributes["success"]
        if not attributes["success"]:
            assert not any(wavefront.reach(state).goal_open for state in before)
            assert attributes["stop_reason"] in {"push_budget", "exhausted"}
            assert attributes["failure_code"] != 0
            assert attributes["why"]


def test_a_broken_scene_is_a_recorded_failure_and_no_more(calm: Mapping[int, EpisodeView]) -> None:
    for number in range(EPISODES):
        episode = calm[BROKEN * EPISODES + number]
        attributes = episode.attributes()
        assert episode.outcome is Outcome.VOID
        assert attributes["failure_name"] == "env_load"
        assert f"env_{BROKEN}.xml" in attributes["why"]
        assert attributes["record"]["success"] is False


def test_export_writes_the_files_of_the_original(collection: Collection, tmp_path: Path) -> None:
    assert headrace(["export", "namo", "--data", str(collection.rough), "--out", str(tmp_path), "--hostname", "h"]) == 0
    folder = tmp_path / "sequential_data_h"
    names = [f"h_env_{number:06d}_results.pkl" for number in range(SCENES)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*names, "collection_summary_h.pkl", "summary_h.txt"]
    )
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    for number, name in enumerate(names):
        results = load(folder / name)
        assert list(results) == [
            "env_id", "success", "episodes_collected", "episodes_before_filtering", "episodes_filtered_out",
            "processing_time", "episode_results",
        ]  # fmt: skip
        assert results["env_id"] == f"h_env_{number:06d}"
        for episode, record in enumerate(results["episode_results"]):
            assert record["episode_id"] == f"h_env_{number:06d}_episode_{episode}"
            assert set(ORIGINAL_KEYS) <= set(record)
            check_record(record)
    summary = load(folder / "collection_summary_h.pkl")
    assert summary["performance_stats"]["total_episodes"] == SCENES * EPISODES
    assert "Success rate: " in (folder / "summary_h.txt").read_text()


ORIGINAL_KEYS = (
    "episode_id", "algorithm", "algorithm_version", "success", "solution_found", "solution_depth", "search_time_ms",
    "nodes_expanded", "terminal_checks", "max_depth_reached", "action_sequence", "algorithm_stats", "error_message",
    "state_observations", "post_action_state_observations", "static_object_info", "xml_file", "robot_goal",
)  # fmt: skip


def check_record(record: dict[str, Any]) -> None:
    if not record["solution_found"]:
        assert record["action_sequence"] is None
        return
    actions = record["action_sequence"]
    assert len(actions) == len(record["state_observations"]) == len(record["post_action_state_observations"])
    for action, before in zip(actions, record["state_observations"], strict=True):
        assert set(action) == {"object_id", "target"}
        assert isinstance(action["target"], tuple)
        assert len(action["target"]) == 3
        assert f"{action['object_id']}_pose" in before
        assert len(before["robot_pose"]) == 3
    info = record["static_object_info"]
    assert {"size_x", "size_y", "size_z"} == set(info[actions[0]["object_id"]]) == set(info["robot"])
    assert {"pos_x", "quat_w"} < set(next(value for name, value in info.items() if name.startswith("wall")))
    assert len(record["robot_goal"]) == 3


def load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())  # noqa: S301 - written by this test


def test_a_plan_is_drawn_as_picture_and_as_animation(collection: Collection, tmp_path: Path, calm: Any) -> None:
    solved = next(episode for episode in calm.values() if episode.outcome is Outcome.SUCCESS)
    void = [episode for episode in calm.values() if episode.outcome is Outcome.VOID]
    failed = next(episode for episode in void if episode.attributes()["scene"])
    for index, name in ((solved.index, "plan.png"), (solved.index, "plan.gif"), (failed.index, "none.png")):
        words = ["--plan", str(index), "--out", str(tmp_path / name)]
        assert headrace(["inspect", str(collection.calm), *words]) == 0
    with Image.open(tmp_path / "plan.png") as picture:
        assert picture.width > 800
    with Image.open(tmp_path / "plan.gif") as animation:
        assert animation.n_frames > 20


def test_a_plan_that_cannot_be_drawn_is_said(
    collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = str(BROKEN * EPISODES), str(tmp_path / "x.png")
    assert headrace(["inspect", str(collection.calm), "--plan", "999", "--out", out]) == 1
    assert headrace(["inspect", str(collection.calm), "--plan", broken, "--out", out]) == 1
    assert headrace(["inspect", str(collection.calm), "--plan", "0", "--out", str(tmp_path / "x.bmp")]) == 1
    said = capsys.readouterr().err
    assert "has no index 999" in said
    assert "have no scene" in said
    assert "ends in .png or .gif" in said


def test_the_same_command_again_finds_everything_done(collection: Collection) -> None:
    before = committed(collection.rough)
    with SinkProcess(collection.rough).ready() as sink:
        with produce(collection, sink.endpoint, 1) as producers:
            finish(producers)
        assert sink.terminate() == 0
    assert committed(collection.rough) == before
    with DatasetView(collection.rough) as view:
        assert view.streams == [STREAM]
        assert json.loads(json.dumps(next(iter(view.new_episodes())).attributes()))["schema_version"] == 1
