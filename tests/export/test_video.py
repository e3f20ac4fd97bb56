"""`headrace export video`: every frame, upright, in its colours, at the stream's rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deploy.main import main as headrace
from protocol.spec import Camera, StreamSpec
from tests.datasets import Recorded
from tests.export.arm import SPEC, check_corners, files, make, stored

ODD = StreamSpec("test/odd", rate_hz=12.5, max_steps=20, cameras=(Camera("front", 49, 65),))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("arm"), [Recorded(3, 12), Recorded(4, 5)])


def export(data: Path, out: Path, *words: str) -> int:
    return headrace(["export", "video", "--data", str(data), "--out", str(out), "--workers", "1", *words])


def film(path: Path) -> tuple[list[NDArray[np.uint8]], list[float], Fraction | None]:
    """Frames as RGB, their times in seconds, and the rate that the file says."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name in ("h264", "gif")
        return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time) for f in frames], stream.average_rate


def test_a_film_has_every_frame_in_its_colours(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == [
        "000003_front.mp4", "000003_wrist.mp4", "000004_front.mp4", "000004_wrist.mp4",
    ]  # fmt: skip
    frames, times, rate = film(tmp_path / "000003_front.mp4")
    truth = stored(data)[3]["front"]
    assert rate == SPEC.rate_hz
    assert times == pytest.approx([step / SPEC.rate_hz for step in range(12)])
    for frame, image in zip(frames, truth, strict=True):
        check_corners(frame)
        assert np.abs(frame.astype(int) - image).mean() < 4
    export(data, tmp_path / "again")
    assert files(tmp_path / "again")["000003_front.mp4"] == files(tmp_path)["000003_front.mp4"]


def test_odd_sides_and_every_other_step(tmp_path: Path) -> None:
    data = make(tmp_path / "data", [Recorded(0, 9)], ODD)
    assert export(data, tmp_path / "out", "--every", "2") == 0
    frames, times, rate = film(tmp_path / "out" / "000000_front.mp4")
    assert [frame.shape for frame in frames] == [(50, 66, 3)] * 5
    assert rate == Fraction(25, 4)
    assert times == pytest.approx([0, 0.16, 0.32, 0.48, 0.64])
    check_corners(frames[0][:49, :65])


def test_a_gif_has_every_frame(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--kind", "gif", "--cameras", "wrist") == 0
    frames, times, _ = film(tmp_path / "000003_wrist.gif")
    assert len(frames) == 12
    assert times == pytest.approx([step / SPEC.rate_hz for step in range(12)])
    for frame in frames:
        check_corners(frame)
    with Image.open(tmp_path / "000004_wrist.gif") as gif:
        assert gif.n_frames == 5  # type: ignore[attr-defined]
        gif.seek(4)
        check_corners(np.asarray(gif.convert("RGB")))


def test_a_sheet_is_upright(data: Path, tmp_path: Path) -> None:
    assert export(data, tmp_path, "--kind", "png", "--frames", "4") == 0
    with Image.open(tmp_path / "000003.png") as sheet:
        assert sheet.size == (6 + 4 * 206, 34 + 2 * (150 + 18 + 6))
        check_corners(np.asarray(sheet)[34 : 34 + 150, 6:206])


def test_what_cannot_be_shown(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(data, tmp_path, "--cameras", "front", "side") == 1
    assert "no camera 'side'; it has: front, wrist" in capsys.readouterr().err
