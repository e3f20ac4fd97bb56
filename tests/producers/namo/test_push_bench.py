"""The figures of `headrace bench plan` that come from this program."""

from __future__ import annotations

import json
from pathlib import Path

from producers.namo.push_bench import MOVABLES, bench_scene, main
from protocol.namo.scene import State
from protocol.namo.wavefront import Wavefront


def test_it_writes_a_figure_for_each_kind_of_physics(tmp_path: Path) -> None:
    assert main(["--json", str(tmp_path / "figures.json"), "--pushes", "3"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    for kind in ("planar", "planar_teleport", "free", "free_teleport"):
        assert 0 < figures[f"push_ms_{kind}"] < 1000
        assert figures[f"{kind}_primitives"] > 0
    assert figures["planar_path_m"] > 0
    assert figures["planar_teleport_path_m"] == 0


def test_its_scene_has_ten_movables_and_keeps_its_goal_shut() -> None:
    scene = bench_scene(1)
    assert len(scene.movables) == MOVABLES
    assert scene.digest() == bench_scene(1).digest() != bench_scene(2).digest()
    assert not Wavefront(scene).reach(State.initial(scene), without=range(MOVABLES)).goal_open
