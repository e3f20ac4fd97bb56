"""`headrace bench pack`, small: a real dataset, packed and read by the real programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench import main as bench
from protocol.errors import ConfigurationError
from tests.datasets import Recorded, write_dataset


def test_figures_come_from_a_packed_dataset(tmp_path: Path) -> None:
    data, written = tmp_path / "data", tmp_path / "figures.json"
    write_dataset(data, [Recorded(index, 19) for index in range(5)], shard_bytes=112 << 10)
    words = ["--data", str(data), "--only", "pack", "read", "--rounds", "1", "--samples", "8"]
    assert bench.main(["pack", *words, "--out", str(tmp_path / "disk"), "--json", str(written)]) == 0
    found = json.loads(written.read_text())
    figures = {figure["name"]: figure for figure in found["figures"]}
    pack = found["details"]["pack"]
    assert figures["pack.ratio"]["value"] == pytest.approx(pack["source_bytes"] / pack["packed_bytes"])
    assert figures["pack.psnr_mean_db"]["value"] >= figures["pack.psnr_least_db"]["value"] >= 38
    assert 0.9 < figures["pack.ssim_least"]["value"] <= figures["pack.ssim_mean"]["value"] <= 1
    rates = [figures[f"pack.random_{name}"]["value"] for name in ("vs_jpeg", "frames_per_s", "jpeg_frames_per_s")]
    assert rates[0] == pytest.approx(rates[1] / rates[2])
    assert not list((tmp_path / "disk").iterdir()), "the bench leaves its data behind"


def test_bad_flags_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="--only takes pack, read, lerobot"):
        bench.main(["pack", "--only", "pcak"])
