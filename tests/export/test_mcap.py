"""`headrace export mcap`, read by the mcap package with nothing but the schemas in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader

from deploy.main import main as headrace
from protocol.dataset_view import DatasetView
from protocol.jpeg import decode
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded
from tests.export.arm import check_corners, files, make

SPEC = StreamSpec(
    "test/all",
    rate_hz=30,
    max_steps=20,
    columns=tuple(
        Column(name.replace("float32", "observations/float32"), name, shape)
        for name, shape in (("float32", (2, 3)), ("float64", (3,)), ("int8", ()), ("uint64", (2,)), ("bool", (1,)))
    ),
    cameras=(Camera("front", 48, 64), Camera("wrist", 33, 65)),
)
EPISODES = [Recorded(4, 7, attributes={"task": "lift"}), Recorded(9, 2)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("all"), EPISODES, SPEC)


def export(data: Path, out: Path, *words: str) -> int:
    return headrace(["export", "mcap", "--data", str(data), "--out", str(out), "--workers", "1", *words])


def messages(path: Path) -> Iterator[tuple[str, str, int, Any]]:
    """(topic, type, time [ns], message) in the order of time."""
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages():
            assert schema is not None
            assert schema.encoding == channel.message_encoding == "protobuf"
            pool = descriptor_pool.DescriptorPool()
            for each in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                pool.Add(each)
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
            yield channel.topic, schema.name, message.log_time, kind.FromString(message.data)


def test_every_message_is_what_was_stored_at_its_time(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path) == 0
    with DatasetView(data) as view:
        for position, episode in enumerate(view.new_episodes()):
            found: dict[str, list[Any]] = {}
            for topic, kind, time, message in messages(tmp_path / f"episode_{position:06d}.mcap"):
                step = len(found.setdefault(topic, []))
                assert time == int(episode.row["began_ns"]) + round(step * 1e9 / 30)
                assert message.timestamp.ToNanoseconds() == time
                found[topic].append(message)
                if topic.startswith("/images/"):
                    camera = topic.removeprefix("/images/")
                    assert (kind, message.format, message.frame_id) == ("foxglove.CompressedImage", "jpeg", camera)
                    assert message.data == episode.frame(camera, step)
                    if camera == "front":
                        check_corners(decode(message.data))
            assert {topic: len(rows) for topic, rows in found.items()} == dict.fromkeys(
                ["/images/front", "/images/wrist", *(f"/{column.name}" for column in SPEC.columns)], episode.steps
            )
            for column in SPEC.columns:
                values = np.array([list(each.values) for each in found[f"/{column.name}"]], column.dtype)
                np.testing.assert_array_equal(values, episode.column(column.name).reshape(episode.steps, -1))


def test_the_file_says_which_episode_it_is(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--columns", "float64", "--cameras", "wrist") == 0
    with (tmp_path / "episode_000000.mcap").open("rb") as file:
        reader = make_reader(file)
        about = {record.name: record.metadata for record in reader.iter_metadata()}
        (attachment,) = reader.iter_attachments()
        summary = reader.get_summary()
    assert about["shapes"] == {"float64": "float64[3]"}
    assert about["episode"].items() >= {"index": "4", "outcome": "success", "seed": "1004", "rate_hz": "30.0"}.items()
    assert json.loads(attachment.data)["task"] == "lift"
    assert summary is not None
    assert {channel.topic for channel in summary.channels.values()} == {"/images/wrist", "/float64"}


def test_the_same_export_is_the_same_bytes(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path / "one") == export(data, tmp_path / "two", "--workers", "2") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert export(data, tmp_path / "three", "--columns", "joints") == 1
