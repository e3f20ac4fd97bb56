"""`python -m producers.namo.push_bench`: CPU milliseconds of one push primitive with ten movables, on one core.

A random walk of pushes in one fixed scene. A primitive counts with everything that it needs: reachability, the choice,
the way, the drive, the push, coming to rest and stepping back. The same walk with teleporting shows what driving costs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from producers.namo.mjcf_model import Physics
from producers.namo.push import Primitive, PushCode
from producers.namo.world import World
from producers.namo.world_config import WorldConfig
from protocol.namo.scene import Box, Scene

MOVABLES = 10
_HALF_M = 3.0  # of the room
_WARM_UP = 5  # pushes before the clock starts


@dataclass(frozen=True)
class PushBenchFlags:
    """Time push primitives."""

    json: Path | None = None
    """Write the figures there instead of to stdout."""
    pushes: int = 60
    """Pushes for each of the four kinds."""
    seed: int = 1
    """Of the scene and of the walk."""


def main(argv: Sequence[str] | None = None) -> int:
    """{"push_ms_planar", "push_ms_free": with the drive; "…_teleport": without; "…_primitives", "…_sim_steps", …}."""
    flags = tyro.cli(PushBenchFlags, prog="producers.namo.push_bench", args=argv)
    scene = bench_scene(flags.seed)
    figures: dict[str, float] = {}
    for physics in Physics:
        for teleport in (False, True):
            world = World(scene, physics, WorldConfig(teleport=teleport))
            figures.update(_measured(world, f"{physics}{'_teleport' if teleport else ''}", flags))
    text = json.dumps(figures, indent=1)
    if flags.json is None:
        sys.stdout.write(text + "\n")
    else:
        flags.json.write_text(text + "\n")
    return 0


def bench_scene(seed: int) -> Scene:
    """Ten boxes of 1 kg in two rooms, 6 m × 6 m; nothing overlaps. The goal is outside, so that no push opens it."""
    rng = np.random.default_rng(seed)
    side = _HALF_M
    walls = [Box(f"wall_{n}", x, 0, 0, 0.05, side) for n, x in enumerate((-side, side))]
    walls += [Box(f"wall_{n + 2}", 0, y, 0, side, 0.05) for n, y in enumerate((-side, side))]
    walls += [Box(f"wall_{n + 4}", 0, y, 0, 0.05, 1.0) for n, y in enumerate((-2, 2))]
    placed: list[tuple[float, float, float]] = [(-2.5, -2.5, 0.4)]  # the robot
    movables: list[Box] = []
    while len(movables) < MOVABLES:
        half_x, half_y = rng.uniform(0.2, 0.45, 2).tolist()
        radius = float(np.hypot(half_x, half_y))
        x, y = rng.uniform(radius - side + 0.1, side - radius - 0.1, 2).tolist()
        if abs(x) > radius + 0.1 and all(np.hypot(x - px, y - py) > radius + pr + 0.05 for px, py, pr in placed):
            placed.append((x, y, radius))
            name = f"obstacle_{len(movables)}_movable"
            movables.append(Box(name, x, y, float(rng.uniform(-np.pi, np.pi)), half_x, half_y, mass=1.0))
    return Scene(f"bench {seed}", (-side, side, -side, side), (-2.5, -2.5), (9, 9), tuple(walls), tuple(movables))


def _measured(world: World, kind: str, flags: PushBenchFlags) -> dict[str, float]:
    _walk(world, np.random.default_rng(flags.seed + 1), _WARM_UP)
    began = time.process_time()
    primitives, codes = _walk(world, np.random.default_rng(flags.seed), flags.pushes)
    spent = time.process_time() - began
    count = len(primitives)
    return {
        f"push_ms_{kind}": spent / count * 1e3,
        f"{kind}_primitives": count,
        f"{kind}_sim_steps": sum(one.sim_steps for one in primitives) / count,
        f"{kind}_path_m": sum(one.path_m for one in primitives) / count,
        f"{kind}_moved_m": sum(one.moved_m for one in primitives) / count,
        f"{kind}_reached": sum(code is PushCode.REACHED for code in codes) / len(codes),
    }


def _walk(world: World, rng: np.random.Generator, pushes: int) -> tuple[list[Primitive], list[PushCode]]:
    """Random targets for random reachable movables, each push from where the last one ended."""
    primitives: list[Primitive] = []
    codes: list[PushCode] = []
    state = world.initial()
    for _ in range(pushes):
        names = world.reachable(state)
        if not names:
            state = world.initial()
            continue
        name = names[int(rng.integers(len(names)))]
        x, y, _ = state.movables[world.scene.place(name)].tolist()
        away, way = rng.uniform(0.3, 1.0), rng.uniform(-np.pi, np.pi)
        target = (x + away * np.cos(way), y + away * np.sin(way), float(rng.uniform(-np.pi, np.pi)))
        result = world.push(state, name, target)
        primitives += result.primitives
        codes.append(result.code)
        state = result.after
    return primitives, codes


if __name__ == "__main__":
    sys.exit(main())
