"""Searches made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.namo.episodes import AttemptTable
from protocol.namo.scene import Box, Scene
from trainer.namo.searches import Search, environment_of


@dataclass(frozen=True)
class Push:
    """One attempt. parent: its row, -1: the first state. moved: the object came to lie a bit further for each row."""

    parent: int
    object: int
    opens: bool = False
    moved: bool = True


def room(number: int = 0) -> Scene:
    """Three boxes in a row, all of which the robot can get to."""
    boxes = tuple(Box(f"obstacle_{n}_movable", -1.2 + 1.2 * n, 0.4 + 0.001 * number, 0.3, 0.2, 0.15) for n in range(3))
    return Scene("room", (-2.0, 2.0, -2.0, 2.0), (-1.5, -1.5), (1.5, 1.5), (), boxes)


def search_of(pushes: Sequence[Push], scene: Scene | None = None) -> Search:
    """A search that tried these pushes in this order."""
    scene = scene or room()
    poses = [[(box.x, box.y, box.yaw) for box in scene.movables]]  # after row i: [i + 1]
    depth: list[int] = []
    for row, push in enumerate(pushes):
        now = list(poses[push.parent + 1])
        x, y, yaw = now[push.object]
        now[push.object] = (x, y + 0.1 + 0.01 * row, yaw) if push.moved else (x, y, yaw)
        poses.append(now)
        depth.append(1 if push.parent < 0 else depth[push.parent] + 1)
    achieved = [poses[row + 1][push.object] for row, push in enumerate(pushes)]
    table = AttemptTable(
        parent=[push.parent for push in pushes],
        depth=depth,
        object=[push.object for push in pushes],
        code=[0] * len(pushes),
        contacts=[0] * len(pushes),
        goal_open=[push.opens for push in pushes],
        primitives=[1] * len(pushes),
        target=[(x + 0.5, y, yaw) for x, y, yaw in achieved],
        achieved=achieved,
        robot=[scene.robot] * len(pushes),
        moved=[],
    )
    return Search(("namo/hand", 0), environment_of(scene), scene, table, ())
