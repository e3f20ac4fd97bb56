"""LiveDataset reads a dataset that is partly packed as one that is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from protocol.errors import DatasetError
from sink.pack.dataset import Plan, pack
from sink.pack.encoder import Quality, psnr_db
from tests.pack.conftest import STEPS
from trainer import LiveDataset, Loading, Order, Sample, Selection
from trainer.live.reader import Batch

SAMPLE = Sample(chunk_size=5)
ORDER, SELECTION = Order("frozen", seed=3), Selection(success=None)


def epoch(root: Path, sample: Sample, workers: int) -> list[Batch]:
    loading = Loading(batch_size=16, workers=workers)
    with LiveDataset(root, sample, selection=SELECTION, order=ORDER, loading=loading) as data:
        return list(data)


@pytest.mark.parametrize(("size", "workers"), [(None, 2), ((24, 24), 0)])
def test_batches_are_the_same(written: Path, data: Path, size: tuple[int, int] | None, workers: int) -> None:
    report = pack(Plan(data, None, True, Quality(), jobs=2))
    assert (len(report.packed), len(report.unsealed)) == (2, 1)
    sample = Sample(chunk_size=5, image_size=size)
    mine, theirs = epoch(written, sample, 0), epoch(data, sample, workers)
    assert sum(len(batch["step"]) for batch in mine) == 7 * STEPS + 3
    for plain, packed in zip(mine, theirs, strict=True):
        for name in ("qpos", "action", "is_pad", "index", "step", "source"):
            assert torch.equal(plain[name], packed[name]), name  # type: ignore[literal-required]
        for camera, images in plain["images"].items():
            for image, other in zip(images.numpy(), packed["images"][camera].numpy(), strict=True):
                # Reduced images are made in another way: JPEG is reduced while it is decoded.
                assert psnr_db(other, image) >= (38 if size is None else 24)
                assert image.dtype == other.dtype == np.uint8


def test_without_pyav_packed_shards_are_refused_in_one_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(Plan(data, None, True, Quality(), jobs=2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DatasetError, match=r"packed shards are video, which needs PyAV .*headrace\[pack\]"):
        epoch(data, SAMPLE, 0)
