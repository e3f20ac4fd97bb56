"""Collections on a real Ray: a raylet dies, users cancel; each index is stored exactly once, nothing is orphaned."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.record import read_record
from protocol.announcement import read_announcement
from tests.fakes import counting_spec, first_successes
from tests.processes import wait_until
from tests.ray.mini import NODES, MiniRay
from tests.ray.submitted import PRODUCERS, Submitted

# Ray starts many processes; on a busy machine that takes its time [s].
pytestmark = pytest.mark.timeout(900)


def states_of(status: dict[str, Any]) -> dict[str, set[str]]:
    """States of the actors of each job."""
    return {job["name"]: {task["state"] for task in job["tasks"]} for job in status["jobs"]}


def test_status_a_second_submission_and_cancel(submitted: Submitted) -> None:
    submitted.write(successes=100_000, step_s=0.05)
    said = submitted.submit()
    assert f"producers-0: {PRODUCERS} actors\n" in said
    submitted.wait_for_episodes(10)

    found = submitted.status()
    assert (found["name"], found["engine"], found["generation"], found["live"]) == ("counting", "ray", 1, True)
    tasks = {job["name"]: job["tasks"] for job in found["jobs"]}
    assert [task["state"] for task in tasks["sink"]] == ["RUNNING"]
    assert tasks["sink"][0]["nodes"] in ("127.0.0.3", "127.0.0.4"), "pinned to where the label is"
    assert [task["task"] for task in tasks["producers-0"]] == list(range(PRODUCERS))
    assert len({task["nodes"] for task in tasks["producers-0"] if task["nodes"]}) > 1, "spread"
    assert found["progress"]["source"].startswith("the sink at 127.0.0.1:")

    refused = submitted.headrace("submit", str(submitted.file), "--ray", status=1)
    assert "generation 1 of this collection is not over: actor conductor, producers-0.0" in refused
    assert "headrace cancel" in refused

    said = submitted.headrace("cancel", str(submitted.file))
    assert "every acknowledged episode is in" in said
    assert said.index("producers: asked") < said.index("sink: asked 1 to stop")
    logs = submitted.logs()
    left = [int(line.split("left after ")[1].split()[0]) for line in logs.splitlines() if "left after" in line]
    assert left
    assert sum(left) == len(submitted.checked().indices), "what was whole was committed"
    assert read_announcement(submitted.folder / "sink.json").stopped is not None, "it has drained"
    after = submitted.status()
    assert not after["live"]
    assert after["progress"]["source"] == str(submitted.data)
    assert states_of(after)["sink"] == {"COMPLETED"}


def test_what_was_cancelled_at_once_goes_on_with_the_next_submission(submitted: Submitted) -> None:
    submitted.write(successes=100_000, step_s=0.05)
    submitted.submit()
    submitted.wait_for_episodes(5)
    assert "ended;" in submitted.headrace("cancel", str(submitted.file), "--now")
    goal = len(submitted.checked().successes) + 5
    submitted.write(successes=goal)
    submitted.submit()
    submitted.wait_for_end()
    assert submitted.checked().successes == list(first_successes(counting_spec(), goal))
    record = read_record(submitted.folder)
    assert record is not None
    assert record.generation == 2
    assert "nothing of counting is left in Ray" in submitted.headrace("cancel", str(submitted.file))


def test_a_raylet_dies_and_every_index_is_stored_exactly_once(ray_cluster: MiniRay, submitted: Submitted) -> None:
    goal = 150
    submitted.write(successes=goal, step_s=0.05)
    submitted.submit()
    submitted.wait_for_episodes(10)
    wait_until(lambda: all(submitted.report(f"producers-0.{task}") for task in range(PRODUCERS)), "all have begun", 180)
    submitted.kill_program("producers-0.0")
    wait_until(lambda: submitted.report("producers-0.0")["life"] == 2, "Ray has begun it again", 180)
    node = submitted.report("sink")["node"].replace("127.0.0.", "n")
    assert ray_cluster.programs(node)
    ray_cluster.kill_raylet(node)
    wait_until(lambda: not ray_cluster.programs(node), f"nothing is orphaned on {node}: {ray_cluster.programs(node)}")
    submitted.wait_for_end()

    checked = submitted.checked()
    assert checked.successes == list(first_successes(counting_spec(), goal))
    assert set(checked.indices) >= set(range(max(checked.successes)))
    names = {stored.producer for stored in checked.stored.values()}
    assert names <= {f"producers-0.{task}" for task in range(PRODUCERS)}, "known by its name, wherever it runs"
    announced = read_announcement(submitted.folder / "sink.json")
    assert announced.generation == 2, "its second life"
    assert announced.stopped is not None, "it has drained"
    sink = submitted.report("sink")
    assert (sink["life"], sink["state"]) == (2, "COMPLETED")
    assert sink["node"].replace("127.0.0.", "n") not in (node, "n2"), "on the other node with the label"
    states = states_of(submitted.status())
    assert states == {"sink": {"COMPLETED"}, "producers-0": {"COMPLETED"}, "conductor": {"COMPLETED"}}
    assert not [line for name in NODES for line in ray_cluster.programs(name)]
