"""`headrace flag`, and what `verify`, `inspect`, `sheet` and `export` make of flags."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.contact_sheet import contact_sheet
from deploy.main import main
from producers.publisher import Publisher
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.flags import FLAGS_NAME
from protocol.messages import Goal
from sink.daemon import Sink, SinkConfig
from sink.dataset import dataset_uuid
from sink.fault import Fault
from sink.flagging import Word, add_flag
from sink.verify import VerifyReport, verify
from tests.datasets import SPEC, Recorded, write_dataset

STREAM = SPEC.name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", [Recorded(index, steps=1) for index in range(5)])
    return tmp_path / "data"


def run(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    assert main([str(word) for word in words]) == status
    said = capsys.readouterr()
    return said.out if status == 0 else said.err


def test_discard_flag_keep_and_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "flag", root) == f"{root}: nothing was said of any episode\n"
    done = run(capsys, "flag", root, "discard", "--index", 4, 1, 4, "--reason", "the can fell")
    assert done == f"{STREAM}: discarded: 1, 4 (2 in all)\n"
    run(capsys, "flag", root, "flag", "--index", 4, "--reason", "[bold]blurred", "--who", "eve")
    line: dict[str, Any] = json.loads(run(capsys, "flag", root, "keep", "--index", 1, "--stream", STREAM, "--json"))
    assert (line["sequence"], line["what"], line["indices"]) == (2, "keep", [1])
    text = run(capsys, "flag", root)
    assert [row.split()[:2] for row in text.splitlines() if "can fell" in row or "blurred" in row] == [
        ["4", "discard"],
        ["4", "flag"],
    ]
    assert "[bold]blurred" in text
    found = json.loads(run(capsys, "flag", root, "list", "--json"))
    assert (found[STREAM]["discarded"], found[STREAM]["flagged"], found[STREAM]["lines"]) == ([4], [4], 3)
    assert [each["reason"] for each in found[STREAM]["said"]] == ["the can fell", "[bold]blurred"]
    history = json.loads(run(capsys, "flag", root, "list", "--history", "--json"))[STREAM]["history"]
    assert [(each["what"], each["indices"]) for each in history] == [
        ("discard", [1, 4]),
        ("flag", [4]),
        ("keep", [1]),
    ]
    assert "keep" in run(capsys, "flag", root, "list", "--history")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("discard",), "expected the episodes to discard: --index N"),
        (("discard", "--index", 1), "expected a reason to discard an episode"),
        (("flag", "--index", 1, "--reason", "a\tb"), "reason: control characters"),
        (("keep", "--index", 77), "has no committed index 77"),
        (("keep", "--index", 1, "--stream", "no"), f"has no stream 'no'; it has: another, {STREAM}"),
        (("keep", "--index", 1), f"has 2 streams; name one with --stream: another, {STREAM}"),
        (("list", "--index", 1), "need one of discard, keep, flag and unflag"),
        (("keep", "--index", 1, "--history"), "--history belongs to list"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    root: Path, words: tuple[object, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "another" in why:
        write_dataset(root, [Recorded(0)], spec=msgspec.structs.replace(SPEC, name="another"))
    said = run(capsys, "flag", root, *words, status=1)
    assert why in said
    assert len(said.splitlines()) == 1
    assert not list(root.rglob(FLAGS_NAME))


# --- the collection goes on ---------------------------------------------------------------------------------------


def test_a_goal_counts_discarded_episodes_and_no_sink_leases_them_again(tmp_path: Path) -> None:
    """Flags are written while the sink runs, and are there when the next one starts."""
    root, spec = tmp_path / "data", msgspec.structs.replace(SPEC, cameras=())
    made: list[int] = []
    for goal in (3, 5):
        sink = Sink(SinkConfig(root, "tcp://127.0.0.1:0", shard_bytes=1 << 16))
        serving = threading.Thread(target=sink.run)
        serving.start()
        try:
            with Publisher(sink.endpoint, spec, Goal(successes=goal)) as publisher:
                for index in publisher.leases():
                    with publisher.episode(index) as episode:
                        episode.step({"action": [index, 0], "observations/qpos": [index, 0, 0]}, {})
                        episode.finish(True)
                    publisher.flush()
                    made.append(index)
                    add(root, "discard", index)
        finally:
            sink.stop()
            serving.join()
        assert made == list(range(goal))
    report = verify(root)
    assert (report.episodes, report.discarded, report.faults, report.notes) == (5, 5, [], [])


# --- who honours them ---------------------------------------------------------------------------------------------


def add(root: Path, what: Any, *indices: int) -> None:
    add_flag(root, STREAM, Word(what, indices, "fell", "ana"))


def only(found: list[Fault]) -> str:
    (fault,) = found
    return str(fault)


def test_verify_counts_them_and_finds_what_is_wrong(root: Path) -> None:
    add(root, "discard", 1, 2)
    add(root, "flag", 2)
    path = root / STREAM / FLAGS_NAME
    whole = path.read_bytes()

    def changed(data: bytes) -> VerifyReport:
        path.write_bytes(data)
        return verify(root)

    report = changed(whole)
    assert (report.discarded, report.flagged, report.faults, report.notes) == (2, 1, [], [])
    assert report.summary.startswith("whole: 5 episodes, 10 frames, 1 stream, 1 shard, 2 discarded, 1 flagged; ")
    assert json.loads(report.to_json())["discarded"] == 2
    assert "line 1, at byte" in only(changed(whole[:-40] + b"0" + whole[-39:]).faults)
    first, second = whole.splitlines(keepends=True)
    assert "line 0, at byte 0: it says that it is line 1; lines before it are missing" in only(changed(second).faults)
    torn = changed(first + second[:-1])
    assert (torn.discarded, torn.flagged, torn.faults) == (2, 0, [])
    assert f"the last {len(second) - 1} bytes are no whole line" in only(torn.notes)
    path.unlink()
    path.symlink_to(root / "dataset.json")
    assert "expected a plain file, cannot open it" in only(verify(root).faults)


def test_verify_notes_flags_of_episodes_that_are_not_there_and_refuses_those_of_others(root: Path) -> None:
    other = root.parent / "other"
    other.mkdir()
    (other / "dataset.json").write_bytes((root / "dataset.json").read_bytes())
    assert dataset_uuid(other) == dataset_uuid(root)
    write_dataset(other, [Recorded(index, steps=1) for index in range(9)])
    add(other, "discard", 2, 7, 8)
    path = root / STREAM / FLAGS_NAME
    path.write_bytes((other / STREAM / FLAGS_NAME).read_bytes())
    report = verify(root)
    assert (report.discarded, report.faults) == (1, [])
    assert "it speaks of indices that are not committed here: 7, 8" in only(report.notes)
    write_dataset(root, [Recorded(index, steps=1) for index in range(9)], msgspec.structs.replace(SPEC, name="another"))
    path.rename(root / "another" / FLAGS_NAME)
    assert "belongs to another stream or dataset" in only(verify(root).faults)


def test_inspect_shows_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "discarded" not in run(capsys, "inspect", root)
    add(root, "discard", 1, 2)
    add(root, "flag", 2)
    assert "2 discarded, 1 flagged; `headrace flag DIR` lists them" in run(capsys, "inspect", root, "--episodes")
    (stream,) = json.loads(run(capsys, "inspect", root, "--episodes", "--json"))["streams"]
    assert (stream["discarded"], stream["flagged"], stream["episodes"]) == (2, 1, 5)
    assert [(row["discarded"], row["flagged"]) for row in stream["rows"]] == [
        (None, None),
        ("fell", None),
        ("fell", "fell"),
        (None, None),
        (None, None),
    ]


def test_a_sheet_leaves_discarded_episodes_out(root: Path) -> None:
    add(root, "discard", 1, 2)
    assert contact_sheet(root, root.parent / "sheet.png", count=9).exists()
    with DatasetView(root) as view:
        view.refresh()
        assert [episode.index for episode in view.kept_episodes(STREAM)] == [0, 3, 4]
    add(root, "discard", 0, 3, 4)
    with pytest.raises(ConfigurationError, match="or all are discarded"):
        contact_sheet(root, root.parent / "sheet.png")
