"""What is the same for all formats of `headrace export`: resuming, following, selecting, refusing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deploy.main import main as headrace
from producers.publisher import Goal, Publisher
from protocol.messages import Outcome
from sink.export.split import Split
from sink.flagging import Word, add_flag
from tests.datasets import Recorded
from tests.export.arm import SPEC, files, make
from tests.fakes import counted_episode, counting_spec, publish
from tests.live_sink import RunSink
from tests.processes import Process, wait_until
from tests.tmpfs import Tmpfs

MANY = 100


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to be interrupted. The index is not the order of commits."""
    episodes = [Recorded((n * 7) % MANY, 4 + n % 3, attributes={"n": n}) for n in range(MANY)]
    return make(tmp_path_factory.mktemp("many"), episodes, group=25)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Ten episodes; every third failed."""
    return make(tmp_path / "data", [few_recorded(n) for n in range(10)])


def few_recorded(index: int) -> Recorded:
    attributes: dict[str, object] = {"note": f"n{index}", "policy": {"noise": index / 10}}
    if index == 9:
        del attributes["policy"]
    return Recorded(index, 2 + index, Outcome.FAILURE if index % 3 == 2 else Outcome.SUCCESS, attributes)


def words(data: Path, out: Path, *more: str) -> list[str]:
    return ["export", "act", "--data", str(data), "--out", str(out), "--workers", "1", *more]


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def indices(out: Path) -> list[int]:
    """Of the files, by position; they must agree with the manifest."""
    count = len(list(out.glob("*.hdf5")))
    found = [int(h5py.File(out / f"episode_{n}.hdf5").attrs["index"]) for n in range(count)]
    assert found == [row["index"] for row in manifest(out)["episodes"]]
    return found


# --- killed, interrupted, out of room -----------------------------------------------------------------------------


def test_killed_it_goes_on_and_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    command = ("-m", "deploy.main", "export", "act", "--data", many, "--out", killed, "--workers", "2")
    progress = killed / ".progress.jsonl"
    for mark in (3, 20):
        with Process(*command, on=("nice", "-n", "5")) as export:  # so that we come in time
            wait_until(lambda mark=mark: len(files_done(killed, progress)) > mark, "some episodes", 120)  # type: ignore[misc]
            export.kill()
    assert not manifest(killed)["complete"]
    before = len(files_done(killed, progress))
    assert 20 < before < MANY
    assert headrace(words(many, killed)) == 0
    assert headrace(words(many, straight)) == 0
    assert files(killed) == files(straight)
    assert indices(killed) == list(range(MANY))


def files_done(out: Path, progress: Path) -> list[str]:
    lines = progress.read_text().splitlines() if progress.exists() else []
    return lines + [row["index"] for row in manifest(out)["episodes"]] if (out / "manifest.json").exists() else []


def test_a_file_that_was_removed_or_cut_is_written_again(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert headrace(words(few, out)) == 0
    whole = files(out)
    (out / "episode_3.hdf5").unlink()
    (out / "episode_5.hdf5").write_bytes(b"cut")
    assert headrace(words(few, out)) == 0
    assert files(out) == whole


def test_a_full_disk_is_said_in_a_sentence_and_goes_on(
    many: Path, tmpfs: Tmpfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmpfs.path / "out"
    assert headrace(words(many, out)) == 1
    said = capsys.readouterr().err
    assert said.startswith("headrace export: disk full: ")
    assert said.count("\n") == 1
    assert not [path.name for path in out.iterdir() if "draft" in path.name]
    tmpfs.remount(64)
    assert headrace(words(many, out)) == 0
    assert headrace(words(many, tmp_path / "straight")) == 0
    assert files(out) == files(tmp_path / "straight")


def test_episodes_committed_later_wait_for_another_export(few: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert headrace(words(few, out)) == 0
    make(few, [few_recorded(20)])
    before = files(out)
    assert headrace(words(few, out)) == 0
    assert "1 rows were committed after its snapshot" in capsys.readouterr().out
    assert files(out) == before


# --- following ----------------------------------------------------------------------------------------------------


def test_it_follows_a_collection_until_ctrl_c_and_after_a_kill(run_sink: RunSink, tmp_path: Path) -> None:
    sink, out, spec = run_sink(), tmp_path / "out", counting_spec()
    columns = ("--qpos", "observations/count", "--qvel", "observations/maybe")
    command = ("-m", "deploy.main", *words(sink.config.data, out, "--follow", "--poll", "0.05", *columns))
    ours = [index for index in range(40) if counted_episode(spec, index).outcome != Outcome.VOID]

    def found() -> list[int]:
        return [row["index"] for row in manifest(out)["episodes"]] if (out / "manifest.json").exists() else []

    with Publisher(sink.endpoint, spec, Goal(end=40)) as publisher:
        export = Process(*command)
        for index in publisher.leases():
            publish(publisher, index)
            if index == 20:
                wait_until(lambda: len(found()) > 5, "the first episodes")
                export.kill()
                export = Process(*command)
        with export:
            wait_until(lambda: len(found()) == len(ours), "all of them")
            export.child.send_signal(signal.SIGINT)
            assert export.wait() == 0, "Ctrl-C is how --follow ends"
    assert sorted(indices(out)) == ours
    for position, index in enumerate(indices(out)):
        with h5py.File(out / f"episode_{position}.hdf5") as file:
            np.testing.assert_array_equal(file["action"][()], counted_episode(spec, index).columns["action"])


# --- what is exported ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--success",), [0, 1, 3, 4, 6, 7, 9]),
        (("--episodes", "1:3,5,8:"), [1, 2, 5, 8, 9]),
        (("--where", "outcome == success and steps < 6"), [0, 1, 3]),
        (("--where", "outcome == failure or note == 'n4'"), [2, 4, 5, 8]),
        (("--where", "not index in [0, 1] and 0.2 < policy.noise <= 0.5"), [3, 4, 5]),
        (("--where", "seed == 1007 or producer != 'tester'"), [7]),
        (("--where", "steps > 3", "--success", "--episodes", ":5"), [3, 4]),
    ],
)
def test_what_is_selected(few: Path, tmp_path: Path, flags: tuple[str, ...], expected: list[int]) -> None:
    out = tmp_path / "out"
    assert headrace(words(few, out, *flags)) == 0
    assert indices(out) == expected


def test_discarded_episodes_are_left_out(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_flag(few, SPEC.name, Word("discard", (2, 3), "the can fell over"))
    add_flag(few, SPEC.name, Word("keep", (3,)))
    out = tmp_path / "out"
    assert headrace(words(few, out)) == 0
    assert indices(out) == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert "1 discarded ones are left out" in capsys.readouterr().out
    assert manifest(out)["snapshot"] == {"shards": {"test/arm/000000.h5": 10}, "flags": 2}
    add_flag(few, SPEC.name, Word("discard", (0,), "twice the same"))
    assert headrace(words(few, out)) == 0
    assert "1 were discarded since" in capsys.readouterr().out
    assert headrace(words(few, tmp_path / "none", "--episodes", "0,2")) == 1
    assert "all 2 selected episodes are discarded" in capsys.readouterr().err
    assert headrace(words(few, tmp_path / "all", "--include-discarded")) == 0
    assert indices(tmp_path / "all") == list(range(10))


def test_a_split_is_a_function_of_the_index() -> None:
    split = Split(["train=0.9", "valid=0.1"])
    names = [split.of(index) for index in range(2000)]
    assert [names.count("train"), names.count("valid")] == [pytest.approx(1800, abs=50), pytest.approx(200, abs=50)]
    assert Split(["train=0.9"]).of(names.index("valid")) is None


def test_one_of_the_splits(few: Path, tmp_path: Path) -> None:
    split = ("--split", "train=0.5", "test=0.5")
    found = []
    for name in ("train", "test"):
        assert headrace(words(few, tmp_path / name, *split, "--only", name)) == 0
        found += indices(tmp_path / name)
        assert {row["split"] for row in manifest(tmp_path / name)["episodes"]} == {name}
    assert sorted(found) == list(range(10))


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--stream", "test/arn"), "did you mean 'test/arm'?"),
        (("--where", "steps <"), "steps <\n         ^"),
        (("--where", "outcome == success and stepz < 3"), "did you mean steps?\n  outcome == success and stepz < 3\n"),
        (("--where", "__import__('os').system('true')"), "expected comparisons, and, or, not, names, numbers"),
        (("--where", "steps"), "steps is 2 and neither true nor false; compare it"),
        (("--where", "success"), "success is a value of outcome; write outcome == success"),
        (("--where", "note < 3"), "'n0' and 3 cannot be compared so\n  note < 3\n  ^"),
        (("--where", "steps ** 99 > 3"), "expected a name, a number"),
        (("--where", "(" * 300 + "steps" + ")" * 300), "--where: "),
        (("--episodes", "1-3"), "'1-3' is no index and no range"),
        (("--episodes", "100:"), "no episode is selected of 10 committed ones by --episodes '100:'"),
        (("--split", "train=0.9", "valid=0.2"), "more than 1 together"),
        (("--only", "train"), "expected one of the names of --split: none; add --split"),
        (("--workers", "0"), "--workers 0"),
    ],
)
def test_bad_flags_are_explained(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert headrace(words(few, tmp_path / "out", *flags)) == 1
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_a_folder_that_holds_something_else_is_left_alone(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert headrace(words(few, out, "--success")) == 0
    before = files(out)
    for flags, said in (
        ((), "success was true there and is false now"),
        (("--success", "--equal-length"), "equal_length was false there and is true now"),
        (("--success", "--follow"), "--follow was false there and is true now"),
    ):
        assert headrace(words(few, out, *flags)) == 1
        assert f"holds another export: {said}" in capsys.readouterr().err
    assert files(out) == before
    other = make(tmp_path / "other", [Recorded(0)])
    assert headrace(words(other, out, "--success")) == 1
    assert "dataset was" in capsys.readouterr().err
    assert headrace(words(few, other)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert headrace(["export", "art"]) == 1
    assert "did you mean act?" in capsys.readouterr().err


def test_a_flipped_bit_is_named_and_not_exported(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = few / SPEC.name / "000000.h5"
    with h5py.File(shard, "r+") as file:
        place = int(file["steps/images/wrist"][0]["offset"]) + 100
        file["blob"][place] ^= 1
    assert headrace(words(few, tmp_path / "out")) == 1
    assert "index 0: camera 'wrist', step 0: frame differs from its checksum" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.hdf5"))
