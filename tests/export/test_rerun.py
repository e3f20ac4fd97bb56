"""`headrace export rerun` without Rerun, which needs numpy 2; `make interop` writes recordings and reads them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.main import main as headrace
from tests.datasets import Recorded
from tests.export.arm import make


@pytest.mark.skipif(find_spec("rerun") is not None, reason="Rerun is installed here")
def test_a_missing_package_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make(tmp_path / "data", [Recorded(0, 2)])
    assert headrace(["export", "rerun", "--data", str(data), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "needs the package 'rerun'; install it with pip install 'headrace[rerun]'" in said
    assert "Traceback" not in said
