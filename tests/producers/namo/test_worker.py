"""One worker in this process, with a real sink: what becomes of environments of every kind."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from producers.job import Job, Report
from producers.namo.flags import NamoOptions
from producers.namo.mjcf_writer import write_mjcf
from producers.namo.sources import collection_goal
from producers.namo.worker import NamoWorker
from producers.supervisor import Channel, StopRequestedError
from protocol.dataset_view import DatasetView
from protocol.messages import Outcome
from protocol.namo.scene import Scene
from protocol.shard_view import EpisodeView
from tests.live_sink import RunSink, run_sink
from tests.producers.namo.rooms import box, divided, room

__all__ = ["run_sink"]

DOOR = divided([box(1, 0.0, 0.0)])
OPEN = room([box(1, 0.5, 0.5)], goal=(1.5, 0.0))
SHUT_IN = room([box(1, -1.0, 0.0, half=(0.1, 1.94))], goal=(1.5, 0.0), robot=(-1.6, 0.0))
CROWDED = room([box(n, -1.0 + 0.4 * n, 1.0, half=(0.1, 0.1)) for n in range(5)], goal=(1.5, 0.0))


@dataclass
class Line:
    """The supervisor's end of a channel."""

    channel: Channel
    receiving: Any
    stop: Any

    def reports(self) -> list[Report]:
        found = []
        while self.receiving.poll():
            found.append(self.receiving.recv())
        return found


@pytest.fixture
def line() -> Iterator[Line]:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    stop = threading.Event()  # one process: no need for one that is shared
    yield Line(Channel(sending, stop), receiving, stop)  # type: ignore[arg-type]
    receiving.close()
    sending.close()


@dataclass
class Collected:
    episodes: dict[int, EpisodeView] = field(default_factory=dict)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)


def collect(root: Path, sink: RunSink, line: Line, scenes: list[Scene], **changes: Any) -> Collected:
    """Search in scenes, in this order; budgets do not depend on the machine."""
    folder = root / "scenes"
    folder.mkdir()
    for number, scene in enumerate(scenes):
        (folder / f"{number}.xml").write_text(write_mjcf(scene))
    settings = {"xml_dir": folder, "max_depth": 2, "max_pushes": 60, "search_timeout": 900.0, **changes}
    options = NamoOptions(**settings)
    endpoint = sink().endpoint
    job = Job(endpoint, "tester", collection_goal(options), options)
    NamoWorker(job, line.channel).run()
    made = Collected()
    with DatasetView(root / "data") as view:
        for episode in view.new_episodes():
            made.episodes[episode.index] = episode
            made.attributes[episode.index] = episode.attributes()
    return made


def test_each_kind_of_search_is_told_apart(tmp_path: Path, run_sink: RunSink, line: Line) -> None:
    scenes = [DOOR, OPEN, SHUT_IN, CROWDED]
    made = collect(tmp_path, run_sink, line, scenes, max_movables=4, verbose=True, drive_to_goal=True)
    found = {index: (each.outcome, each.steps) for index, each in made.episodes.items()}
    assert found[0][0] is Outcome.SUCCESS
    assert found[0][1] >= 1
    assert found[1] == found[2] == found[3] == (Outcome.VOID, 0)
    door, trivial, hopeless, crowded = (made.attributes[index] for index in range(4))
    assert door["arrived"] is door["verified"] is door["goal_open_after"] is True
    assert door["goal_open_before"] is False
    assert trivial["success"] is trivial["record"]["solution_found"] is True
    assert (trivial["stop_reason"], trivial["record"]["solution_depth"]) == ("trivial", 0)
    assert trivial["record"]["action_sequence"] is None
    assert hopeless["success"] is False
    assert hopeless["failure_code"] != 0
    assert hopeless["record"]["success"] is True, "the search itself ran"
    assert crowded["failure_name"] == "env_load"
    assert "has 5 movables, the stream has room for 4 (--max-movables)" in crowded["why"]
    said = [report.text for report in line.reports() if report.kind == "said"]
    assert len(said) == 4
    assert said[0].startswith("environment 0, episode 0: solved, pushes: ")


@pytest.mark.parametrize("changes", [{"physics": "free"}, {"teleport": True}, {"smooth": True, "refine": True}])
def test_plans_of_every_way_to_push_hold_when_they_are_replayed(
    tmp_path: Path, run_sink: RunSink, line: Line, changes: dict[str, Any]
) -> None:  # fmt: skip
    made = collect(tmp_path, run_sink, line, [DOOR], **changes)
    assert made.episodes[0].outcome is Outcome.SUCCESS, made.attributes[0]["why"]
    assert made.attributes[0]["verified"] is True
    assert made.attributes[0]["options"] | changes == made.attributes[0]["options"]


def test_a_worker_that_is_stopped_gives_its_index_back(tmp_path: Path, run_sink: RunSink, line: Line) -> None:
    line.stop.set()
    with pytest.raises(StopRequestedError):
        collect(tmp_path, run_sink, line, [DOOR])
    with DatasetView(tmp_path / "data") as view:
        assert not list(view.new_episodes())
