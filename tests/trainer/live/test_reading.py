"""What is in a batch, to the value; and what happens when stored bytes are not what they should be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from protocol import jpeg
from protocol.dataset_view import DatasetView
from protocol.errors import CorruptionError, DatasetError
from protocol.layout import FRAME
from protocol.shard_view import EpisodeView
from tests.trainer.live.worlds import LOW, SEEN, expected, grow, names, names_of, take
from trainer import LiveDataset, Loading, Order, Sample

STATES = ("observations/qpos", "observations/touch", "observations/count")


def stored(root: Path) -> dict[int, EpisodeView]:
    view = DatasetView(root)
    return {episode.index: episode for episode in view.new_episodes()}


def test_states_actions_and_padding_are_what_is_stored(small: Path) -> None:
    episodes = stored(small)
    with LiveDataset(small, Sample(STATES, chunk_size=4), loading=Loading(16)) as data:
        schema = data.schema()
        assert (schema.state_dim, schema.action_dim, schema.cameras, schema.rate_hz) == (8, 2, {}, 20)
        for batch in data:
            assert {name: (tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in _tensors(batch).items()} == {
                "qpos": (torch.float32, (8,)),
                "action": (torch.float32, (4, 2)),
                "is_pad": (torch.bool, (4,)),
                "index": (torch.int64, ()),
                "step": (torch.int64, ()),
                "source": (torch.int64, ()),
            }
            for place, (_, index, step) in enumerate(names_of(batch)):
                _check_sample(batch, place, episodes[index], step)


def _tensors(batch: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in batch.items() if name != "images"}


def _check_sample(batch: Any, place: int, episode: EpisodeView, step: int) -> None:
    state = [episode.column(name)[step].reshape(-1).astype("f4") for name in STATES]
    np.testing.assert_array_equal(batch["qpos"][place].numpy(), np.concatenate(state))
    left = episode.column("action")[step : step + 4]
    chunk = np.zeros((4, 2), np.float32)
    chunk[: len(left)] = left
    np.testing.assert_array_equal(batch["action"][place].numpy(), chunk)
    assert batch["is_pad"][place].tolist() == [number >= len(left) for number in range(4)]


@pytest.mark.parametrize("size", [None, (24, 32), (48, 64), (12, 16), (20, 20), (60, 70)])
def test_images_are_the_stored_frames_in_the_size_asked_for(seen: Path, size: tuple[int, int] | None) -> None:
    episodes = stored(seen)
    with LiveDataset(seen, Sample(cameras=("front",), image_size=size), loading=Loading(8)) as data:
        assert data.schema().cameras == {"front": size or (48, 64)}
        (batch,) = take(data, 1)
    images = batch["images"]["front"]
    assert images.dtype == torch.uint8
    assert tuple(images.shape) == (8, 3, *(size or (48, 64)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    for place, (_, index, step) in enumerate(names_of(batch)):
        whole = jpeg.decode(episodes[index].frame("front", step))
        found = images[place].permute(1, 2, 0).numpy()
        if size in (None, (48, 64)):
            np.testing.assert_array_equal(found, whole)
        else:  # scaled while decoding: nearly what a good filter makes of the whole image
            assert size is not None
            smaller = Image.fromarray(whole).resize((size[1], size[0]), Image.Resampling.BOX)
            difference = np.abs(np.asarray(smaller).astype(int) - found.astype(int))
            assert difference.mean() < 6, (index, step)


def test_images_can_be_numbers_from_0_to_1(seen: Path) -> None:
    with LiveDataset(seen) as data, LiveDataset(seen, Sample(image_dtype="float32")) as floats:
        (whole,), (batch,) = take(data, 1), take(floats, 1)
    assert set(batch["images"]) == {"front", "wrist"}
    for name, images in batch["images"].items():
        assert images.dtype == torch.float32
        torch.testing.assert_close(images, whole["images"][name].float() / 255)


def damage(root: Path, camera: str = "front", count: int = 1) -> set[tuple[int, int, int]]:
    """Flip a byte in the frames of the first steps of a shard that is there; returns whose they are."""
    with DatasetView(root) as view:
        episodes = [episode for episode in view.new_episodes() if (0, episode.index, 0) in expected(root)][:count]
        assert len(episodes) == count
        for episode in episodes:
            layout = episode.shard.layout
            with layout.path.open("r+b") as file:
                file.seek(layout.offsets[f"steps/images/{camera}"] + int(episode.row["first_step"]) * FRAME.itemsize)
                place = np.frombuffer(file.read(FRAME.itemsize), FRAME)[0]
                file.seek(layout.offsets["blob"] + int(place["offset"]) + int(place["size"]) // 2)
                byte = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([byte ^ 1]))
        return {(0, episode.index, 0) for episode in episodes}


@pytest.fixture
def damaged(seen: Path, tmp_path: Path) -> Path:
    """A copy with three frames that a bit was flipped in."""
    shutil.copytree(seen, tmp_path / "data")
    assert damage(tmp_path / "data", count=3)
    return tmp_path / "data"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_frame_stops_with_its_place(damaged: Path, workers: int) -> None:
    with LiveDataset(damaged, loading=Loading(workers=workers)) as data:
        where = r"00000\d\.h5: index \d+, step 0: camera 'front': the frame differs from its checksum; on_corrupt="
        with pytest.raises(CorruptionError, match=where):
            list(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_frame_is_left_out_and_counted(
    damaged: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with DatasetView(damaged) as view:
        gone = {(0, e.index, 0) for e in view.new_episodes() if (0, e.index, 0) in expected(damaged)}
    with LiveDataset(damaged, loading=Loading(5, workers=workers, on_corrupt="skip")) as data:
        batches = list(data)
        assert data.skipped == 3
    missing = expected(damaged) - set(names(batches))
    assert len(missing) == 3
    assert missing <= gone
    assert len(names(batches)) == len(expected(damaged)) - 3
    for batch in batches:
        assert len({len(tensor) for tensor in [*_tensors(batch).values(), *batch["images"].values()]}) == 1
    assert caplog.text.count("left out: ") == 3


def test_a_batch_without_a_good_sample_stops_even_then(damaged: Path) -> None:
    with (
        LiveDataset(damaged, loading=Loading(1, on_corrupt="skip")) as data,
        pytest.raises(CorruptionError, match="no sample of a batch can be used; run `headrace verify`"),
    ):
        list(data)


def test_a_corrupt_column_is_found_when_its_episode_is_first_used(small: Path, tmp_path: Path) -> None:
    """Also a column that was not asked for: the checksum is that of the episode."""
    shutil.copytree(small, tmp_path / "data")
    every = expected(small)
    with DatasetView(tmp_path / "data") as view:
        episode = next(e for e in view.new_episodes() if (0, e.index, 2) in every)
        layout, index = episode.shard.layout, episode.index
        with layout.path.open("r+b") as file:
            file.seek(layout.offsets["steps/observations/touch"] + int(episode.row["first_step"]))
            value = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([1 - value]))
    with LiveDataset(tmp_path / "data", LOW) as data, pytest.raises(CorruptionError, match=f"index {index}.*columns"):
        list(data)
    with LiveDataset(tmp_path / "data", LOW, loading=Loading(16, on_corrupt="skip")) as data:
        assert set(names(data)) == {name for name in every if name[1] != index}
        assert data.skipped == len([name for name in every if name[1] == index])


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_of_images_is_used_again_but_never_while_someone_holds_it(seen: Path, workers: int) -> None:
    with LiveDataset(seen, loading=Loading(4, workers=workers)) as data:
        held = take(data, 10)
        pictures = [batch["images"]["front"].clone() for batch in held]
        last = held[-1]["images"]["front"][0, 0].numpy()
        value = last.copy()
        assert len({batch["images"]["front"].data_ptr() for batch in held}) == 10
        places = {batch["images"]["front"].data_ptr() for batch in data.batches(20)}
        assert all(batch["images"]["front"].equal(picture) for batch, picture in zip(held, pictures, strict=True))
        del held
        again = {batch["images"]["front"].data_ptr() for batch in data.batches(60)}
        np.testing.assert_array_equal(last, value)
    assert len(places) < 20
    assert len(again | places) < 30


def test_a_camera_that_is_not_asked_for_is_not_read(damaged: Path) -> None:
    with LiveDataset(damaged, Sample(cameras=("wrist",))) as data:
        assert set(names(data)) == expected(damaged)


def test_a_truncated_shard_is_one_clear_error(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "data")
    with LiveDataset(tmp_path / "data", LOW) as data:
        take(data, 1)
        for path in (tmp_path / "data").rglob("*.h5"):
            with path.open("r+b") as file:
                file.truncate(60_000)
        with pytest.raises(CorruptionError, match="the file was truncated"):
            list(data)


@pytest.mark.parametrize("mode", ["growing", "frozen"])
def test_a_directory_that_disappears_is_one_clear_error(small: Path, tmp_path: Path, mode: Any) -> None:
    """What does not look at the directory any more is not stopped by it."""
    shutil.copytree(small, tmp_path / "data")
    with LiveDataset(tmp_path / "data", LOW, order=Order(mode)) as data:
        take(data, 1)
        shutil.rmtree(tmp_path / "data")
        if mode == "frozen":
            assert names(data)
        else:
            with pytest.raises(DatasetError, match="has disappeared; was the dataset moved"):
                list(data)


def test_a_shard_of_many_sizes_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Frames go past the page cache of the writer; a reader must never see old pages."""
    grow(tmp_path, [0], SEEN)
    with LiveDataset(tmp_path, Sample(cameras=("front",)), order=Order("newest_first"), loading=Loading(4)) as data:
        for index in range(1, 30):
            list(data)
            grow(tmp_path, [index], SEEN)
        list(data)
        assert set(names(data)) == expected(tmp_path)
