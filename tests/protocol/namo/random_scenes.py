"""Random scenes: boxes at any yaw, which may overlap, in bounds that need not be square."""

from __future__ import annotations

import numpy as np

from protocol.namo.scene import Box, Scene


def random_scene(seed: int) -> Scene:
    """Up to six walls and six movables."""
    rng = np.random.default_rng(seed)
    width, height = rng.uniform(1.5, 4.0, 2).tolist()
    x0, y0 = rng.uniform(-5, 5, 2).tolist()

    def boxes(count: int, name: str) -> tuple[Box, ...]:
        rows = []
        for number in range(count):
            x, y = (float(rng.uniform(low, low + side)) for low, side in ((x0, width), (y0, height)))
            half_x, half_y = rng.uniform(0.03, 0.5, 2).tolist()
            rows.append(Box(name.format(number), x, y, float(rng.uniform(-7, 7)), half_x, half_y))
        return tuple(rows)

    robot = (float(rng.uniform(x0, x0 + width)), float(rng.uniform(y0, y0 + height)))
    goal = (float(rng.uniform(x0, x0 + width)), float(rng.uniform(y0, y0 + height)))
    walls, movables = boxes(int(rng.integers(7)), "wall_{}"), boxes(int(rng.integers(7)), "obstacle_{}_movable")
    return Scene(f"random {seed}", (x0, x0 + width, y0, y0 + height), robot, goal, walls, movables, 0.12)
