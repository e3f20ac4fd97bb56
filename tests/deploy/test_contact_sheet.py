"""The contact sheet: the right frames in the right places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.contact_sheet import GUTTER, HEADER, MARGIN, WIDTH, contact_sheet, evenly, main
from protocol.errors import ConfigurationError, DatasetError
from protocol.messages import Outcome
from protocol.spec import Camera, StreamSpec
from tests.datasets import SPEC, Recorded, picture, write_dataset

EPISODES, STEPS = 5, 9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sheet") / "data"
    outcomes = {1: Outcome.VOID, 2: Outcome.FAILURE}
    write_dataset(root, [Recorded(i, STEPS, outcomes.get(i, Outcome.SUCCESS)) for i in range(EPISODES)])
    return root


@pytest.mark.parametrize(
    ("length", "count", "places"),
    [(1, 8, [0]), (3, 8, [0, 1, 2]), (100, 4, [0, 33, 66, 99]), (7, 2, [0, 6]), (7, 1, [0]), (0, 3, [])],
)
def test_evenly(length: int, count: int, places: list[int]) -> None:
    assert evenly(length, count) == places


def test_each_tile_shows_its_step(root: Path, tmp_path: Path) -> None:
    out = contact_sheet(root, tmp_path / "sheet.png", count=1, columns=3, cameras=["front"])
    assert out == tmp_path / "sheet.png"
    with Image.open(out) as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    tile = (WIDTH - 2 * MARGIN - GUTTER - 2 * 6) // 3
    assert sheet.shape[1] == 2 * MARGIN + GUTTER + 3 * tile + 2 * 6 <= WIDTH
    camera = SPEC.cameras[0]
    for column, step in enumerate([0, 4, 8]):
        left = MARGIN + GUTTER + column * (tile + 6)
        shown = sheet[HEADER : HEADER + tile * camera.height // camera.width, left : left + tile]
        expected = picture(camera, 0, step).astype(int)
        rows, columns = ((2 * np.arange(0, side, 3) + 1) * tile // (2 * 64) for side in (48, 64))
        assert np.abs(shown[np.ix_(rows, columns)] - expected[::3, ::3]).mean() < 12


def test_rows_of_all_episodes_and_cameras(root: Path, tmp_path: Path) -> None:
    """The VOID episode has no pictures; two cameras each of four episodes are shown, wide and high as needed."""
    with Image.open(contact_sheet(root, tmp_path / "a.png", count=99)) as image:
        all_rows, width = image.height, image.width
    with Image.open(contact_sheet(root, tmp_path / "b.png", count=2)) as image:
        two_rows = image.height
    with Image.open(contact_sheet(root, tmp_path / "c.png", count=99, cameras=["wrist"])) as image:
        one_camera = image.height
    assert width <= WIDTH
    assert 2 * (two_rows - HEADER - MARGIN) == all_rows - HEADER - MARGIN
    assert one_camera < all_rows


def test_every_stream_with_cameras(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, [Recorded(0)])
    one = contact_sheet(data, tmp_path / "one.png")
    write_dataset(data, [Recorded(0)], spec=StreamSpec("blind", 10, 10))
    write_dataset(data, [Recorded(0)], spec=StreamSpec("other", 10, 10, (), (Camera("top", 200, 500),)))
    both = contact_sheet(data, tmp_path / "both.png")
    chosen = contact_sheet(data, tmp_path / "chosen.png", stream="test/count")
    with Image.open(one) as a, Image.open(both) as b, Image.open(chosen) as c:
        assert b.height > a.height
        assert np.array_equal(np.asarray(a), np.asarray(c))
    with pytest.raises(ConfigurationError, match="no cameras in blind"):
        contact_sheet(data, tmp_path / "x.png", stream="blind")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stream": "robosuite/Lift"}, "has no stream 'robosuite/Lift'; it has: test/count"),
        ({"cameras": ["back"]}, "has no camera 'back'; it has: front, wrist"),
        ({"count": 0}, "--count 0 and --columns 8 must be at least 1"),
        ({"out": Path("/nowhere/sheet.png")}, "--out /nowhere/sheet.png: cannot write"),
        ({"out": Path("sheet.nothing")}, "--out sheet.nothing: cannot write"),
    ],
)
def test_what_cannot_be_shown(root: Path, tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        contact_sheet(root, **{"out": tmp_path / "sheet.png", **arguments})  # type: ignore[arg-type]


def test_nothing_to_show_yet(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no directory"):
        contact_sheet(tmp_path / "nowhere", tmp_path / "sheet.png")
    with pytest.raises(ConfigurationError, match="no episode with pictures"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
    write_dataset(tmp_path, [Recorded(0, outcome=Outcome.VOID)])
    with pytest.raises(ConfigurationError, match="no episode with pictures"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")


@pytest.mark.usefixtures("no_leaks")
def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert main([str(root), "--out", str(out), "--count", "2", "--columns", "40", "--camera", "wrist", "front"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.is_file()
