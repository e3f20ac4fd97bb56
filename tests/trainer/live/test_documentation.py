"""The loop in docs/trainer.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from protocol.spec import Camera, Column, StreamSpec
from tests.trainer.live.worlds import grow

ROOT = Path(__file__).parents[3]
CAN = StreamSpec(
    "robosuite/PickPlaceCan",
    rate_hz=50,
    max_steps=60,
    columns=(Column("action", "float32", (7,)), Column("observations/qpos", "float32", (9,))),
    cameras=(Camera("agentview", 120, 160),),
)


def test_the_example_loop_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "trainer.md").read_text(), re.DOTALL)
    grow(tmp_path / "runs" / "can", range(20), CAN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(epoch [12]: \d+ episodes, validation loss \d+\.\d{3}\n){2}", done.stdout), done.stdout
    assert (tmp_path / "checkpoint.pt").stat().st_size > 1000
