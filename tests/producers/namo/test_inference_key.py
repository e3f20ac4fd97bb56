"""Which key a planner shows the inference server."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.namo.flags import NamoOptions
from producers.namo.models import inference_key_file


def test_the_key_for_the_sink_is_for_both_unless_another_or_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_KEY", raising=False)
    lab, own = Path("lab.key"), Path("own.key")
    assert inference_key_file(NamoOptions()) is None
    assert inference_key_file(NamoOptions(key=lab)) == lab
    assert inference_key_file(NamoOptions(key=lab, inference_key=own)) == own
    assert inference_key_file(NamoOptions(key=lab, inference_key=Path("none"))) is None
    monkeypatch.setenv("HEADRACE_KEY", "env.key")
    assert inference_key_file(NamoOptions()) == Path("env.key")
    assert inference_key_file(NamoOptions(inference_key=Path("none"))) is None
