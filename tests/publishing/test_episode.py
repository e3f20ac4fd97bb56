"""Whatever does not fit the spec is found in the user's own thread, in the step that was wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producers.episode import Episode
from producers.publisher import Goal, Publisher
from protocol.dataset_view import DatasetView
from protocol.errors import EpisodeError
from protocol.jpeg import encode
from tests.fakes import CheckingReader, counted_episode, counting_spec, publish
from tests.live_sink import RunSink

SPEC = counting_spec()
MADE = counted_episode(SPEC, 0)


def step_of(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a right step, with changes by the last part of the name; None leaves the name out."""
    columns: dict[str, Any] = {name: values[0] for name, values in MADE.columns.items()}
    images: dict[str, Any] = {name: shown[0] for name, shown in MADE.images.items()}
    for name, value in changes.items():
        place = images if name.startswith("camera") else columns
        full = next((known for known in place if known.rpartition("/")[2] == name), name)
        place[full] = value
        if value is None:
            del place[full]
    return columns, images


@pytest.fixture
def publisher(run_sink: RunSink) -> Iterator[Publisher]:
    with Publisher(run_sink().endpoint, SPEC, Goal(successes=100)) as made:
        yield made


@pytest.fixture
def index(publisher: Publisher) -> int:
    return next(publisher.leases())


NAN = np.array([0.0, np.nan, 0.0], np.float32)
WRONG_STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "missing column": ({"action": None}, r"missing \['action'\]"),
    "unknown column": ({"speed": 1.0}, r"unknown \['speed'\]"),
    "missing camera": ({"camera1": None}, r"missing \['camera1'\]"),
    "unknown camera": ({"camera7": MADE.images["camera0"][0]}, r"unknown \['camera7'\]"),
    "shape": ({"action": np.zeros(4, np.float32)}, r"column 'action': expected shape \[3\], found \[4\]"),
    "scalar for a vector": ({"action": 1.0}, r"column 'action': expected shape \[3\], found \[\]"),
    "dtype": ({"count": 0.5}, "column 'observations/count': expected int64, found float64"),
    "text": ({"action": ["a", "b", "c"]}, "column 'action': expected float32, found"),
    "ragged": ({"action": [[1], [2, 3], 4]}, "column 'action': "),
    "NaN": ({"action": NAN}, "column 'action': NaN or infinity, which the spec forbids"),
    "infinity": ({"action": -np.inf * np.ones(3)}, "column 'action': NaN or infinity"),
    "too large for float32": ({"action": np.full(3, 1e300)}, "column 'action': NaN or infinity"),
    "too large for uint8": ({"grid": np.full((2, 3), 300, np.uint16)}, "column 'observations/grid': .*300.* uint8"),
    "negative for uint8": ({"grid": -np.ones((2, 3), np.int64)}, "column 'observations/grid': .*-1.* uint8"),
    "image as floats": ({"camera0": np.zeros((48, 64, 3))}, r"camera 'camera0': expected uint8\[48, 64, 3\] .*float64"),
    "image on its side": ({"camera0": np.zeros((64, 48, 3), np.uint8)}, r"found uint8\[64, 48, 3\]"),
    "image as a list": ({"camera0": [[1, 2], [3, 4]]}, "camera 'camera0': expected "),
    "no JPEG": ({"camera0": b"nothing"}, "camera 'camera0': expected a JPEG, found 7 bytes"),
    "JPEG of another size": ({"camera0": encode(np.zeros((8, 8, 3), np.uint8))}, "expected 48×64 pixels, found 8×8"),
    "JPEG cut off": ({"camera0": MADE.frames["camera0"][0][:-5]}, "camera 'camera0': .* is cut off"),
}  # fmt: skip


def test_an_episode_does_not_end_before_it_began(
    tmp_path: Path, publisher: Publisher, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock is set back by an hour meanwhile."""
    wall = time.time_ns
    with publisher.episode(index) as episode:
        episode.step(*step_of())
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: wall() - 3600 * 10**9)
            episode.finish(True)
    publisher.flush()
    with DatasetView(tmp_path / "data") as view:
        (stored,) = view.new_episodes()
        assert 0 <= int(stored.row["ended_ns"]) - int(stored.row["began_ns"]) < 60 * 10**9


@pytest.mark.parametrize(("changes", "why"), WRONG_STEPS.values(), ids=WRONG_STEPS)
def test_a_wrong_step_names_the_place_and_can_be_done_again(
    publisher: Publisher, index: int, changes: dict[str, Any], why: str
) -> None:
    columns, images = step_of(**changes)
    with publisher.episode(index) as episode:
        with pytest.raises(EpisodeError, match=rf"index {index}, step 0.*{why}"):
            episode.step(columns, images)
        assert episode.steps == 0
        for step in range(MADE.steps):
            episode.step(
                {name: values[step] for name, values in MADE.columns.items()},
                {name: frames[step] for name, frames in MADE.frames.items()},
            )
        episode.finish(True, {"counted": "#0"}, MADE.seed, MADE.documents)
    publisher.flush()


def record(episode: Episode) -> None:
    for step in range(MADE.steps):
        episode.step(
            {name: values[step] for name, values in MADE.columns.items()},
            {name: frames[step] for name, frames in MADE.frames.items()},
        )


Ending = Callable[[Episode], None]
WRONG_ENDINGS: dict[str, tuple[Ending, str]] = {
    "not JSON": (lambda e: e.finish(True, {"what": object()}), "the attributes cannot be written as JSON"),
    "key of no JSON": (lambda e: e.finish(True, {"what": {(1, 2): 3}}), "the attributes cannot be written as JSON"),
    "too many attributes": (lambda e: e.finish(True, {"x": "y" * 300_000}), "the attributes take 300.* at most 262144"),
    "large document": (lambda e: e.finish(True, documents={"xml": bytes(300_000)}), "document 'xml' has 300000 bytes"),
    "empty document": (lambda e: e.finish(True, documents={"xml": b""}), "document .* 0 bytes"),
    "negative seed": (lambda e: e.finish(True, seed=-1), "seed -1"),
    "large seed": (lambda e: e.finish(True, seed=2**63), "seed 9223372036854775808"),
    "seed no integer": (lambda e: e.finish(True, seed=1.5), "seed 1.5"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize(("ending", "why"), WRONG_ENDINGS.values(), ids=WRONG_ENDINGS)
def test_a_wrong_ending_can_be_done_again(publisher: Publisher, index: int, ending: Ending, why: str) -> None:
    with publisher.episode(index) as episode:
        record(episode)
        with pytest.raises(EpisodeError, match=rf"index {index}: .*{why}"):
            ending(episode)
        episode.finish(True, {"counted": "#0"}, np.int64(MADE.seed), MADE.documents)  # type: ignore[arg-type]
    publisher.flush()
    assert publisher.committed == 1


def test_an_episode_without_steps_is_refused(publisher: Publisher, index: int) -> None:
    with publisher.episode(index) as episode:
        with pytest.raises(EpisodeError, match=r"has no steps; use fail\(\)"):
            episode.finish(True)
        episode.fail("it never began")


def test_an_episode_longer_than_the_stream_allows_is_refused(publisher: Publisher, index: int) -> None:
    columns, images = step_of()
    with publisher.episode(index) as episode:
        for _ in range(SPEC.max_steps):
            episode.step(columns, images)
        with pytest.raises(EpisodeError, match=r"the stream allows 40 steps"):
            episode.step(columns, images)
        episode.fail("too long")


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda e: e.step(*step_of()), id="step"),
        pytest.param(lambda e: e.finish(True), id="finish"),
        pytest.param(lambda e: e.fail("no"), id="fail"),
    ],
)
def test_nothing_can_be_done_after_the_end(publisher: Publisher, index: int, again: Ending) -> None:
    with publisher.episode(index) as episode:
        record(episode)
        episode.finish(True, {"counted": "#0"}, MADE.seed, MADE.documents)
        with pytest.raises(EpisodeError, match=f"index {index}: the episode has ended"):
            again(episode)
    publisher.flush()
    assert publisher.committed == 1


def test_leaving_without_an_end_is_an_error_and_gives_the_index_back(publisher: Publisher, index: int) -> None:
    with pytest.raises(EpisodeError, match=rf"index {index}: the episode was left without finish\(\) or fail\(\)"):  # noqa: SIM117 -- leaving is what is tested
        with publisher.episode(index) as episode:
            record(episode)
    assert next(publisher.leases()) == index


def test_what_the_caller_changes_after_a_step_does_not_matter(run_sink: RunSink) -> None:
    """A simulator reuses its buffers."""
    sink = run_sink()
    with Publisher(sink.endpoint, SPEC, Goal(successes=1)) as publisher:
        for index in publisher.leases():
            made = counted_episode(SPEC, index)
            buffers = {name: values[0].copy() for name, values in made.columns.items() if values[0].shape}
            image = np.empty((48, 64, 3), np.uint8)
            with publisher.episode(index) as episode:
                for step in range(made.steps):
                    for name, buffer in buffers.items():
                        buffer[...] = made.columns[name][step]
                    image[...] = made.images["camera0"][step]
                    columns = {name: buffers.get(name, values[step]) for name, values in made.columns.items()}
                    episode.step(columns, {"camera0": image, "camera1": made.frames["camera1"][step]})
                    for buffer in buffers.values():
                        buffer[...] = 0
                    image[...] = 0
                episode.finish(True, {"counted": f"#{index}"}, made.seed, made.documents)
    assert CheckingReader(sink.config.data).indices == [0]


def test_other_number_types_that_fit_are_converted(publisher: Publisher, index: int) -> None:
    columns, images = step_of(
        action=[1, 2, 3], count=np.uint8(7), grid=[[1, 2, 3], [4, 5, 255]], touch=True, maybe=np.float32([1, np.nan])
    )
    with publisher.episode(index) as episode:
        episode.step(columns, images)
        episode.finish(True)
    publisher.flush()
    assert publisher.committed == 1


def test_big_endian_strided_and_read_only_inputs_are_stored_right(run_sink: RunSink) -> None:
    sink = run_sink()
    with Publisher(sink.endpoint, SPEC, Goal(successes=1)) as publisher:
        for index in publisher.leases():
            made = counted_episode(SPEC, index)
            with publisher.episode(index) as episode:
                for step in range(made.steps):
                    columns: dict[str, Any] = {name: values[step] for name, values in made.columns.items()}
                    columns["action"] = np.repeat(made.columns["action"][step], 2)[::2].astype(">f4")
                    columns["observations/grid"] = np.asfortranarray(made.columns["observations/grid"][step])
                    images = {name: shown[step][:, ::-1].copy()[:, ::-1] for name, shown in made.images.items()}
                    episode.step(columns, images)
                episode.finish(True, {"counted": f"#{index}"}, made.seed, made.documents)
    assert CheckingReader(sink.config.data).indices == [0]


def test_an_episode_of_a_stream_without_cameras(run_sink: RunSink) -> None:
    sink, spec = run_sink(), counting_spec(cameras=0)
    with Publisher(sink.endpoint, spec, Goal(end=8)) as publisher:
        for index in publisher.leases():
            publish(publisher, index)
    assert CheckingReader(sink.config.data, spec).indices == list(range(8))
