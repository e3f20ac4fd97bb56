"""The robosuite tasks that Headrace knows: what a policy must know of each object, and where it should end.

Frames: `world` is MuJoCo's world, z up; `object` is the frame of the object's root body. Lengths in metres, angles in
radians. Object sizes are those of the collision meshes of robosuite 1.5.2 (models/assets/objects/*.xml), measured on
the compiled model; tests/producers/test_tasks.py measures them again.

Imports no simulator: the supervisor reads this file too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

from protocol.errors import ConfigurationError

# The highest edge of the bins: floor at 0.80 + wall 0.05 high at 0.05 (models/assets/arenas/bins_arena.xml).
BIN_RIM_HEIGHT = 0.9
# Walls that run along x between the pick side and the four quarters of bin 2, as world y of their far faces.
BIN_WALL_NEAR_FACE = -0.01
"""y at which the first wall between the bins begins."""


@dataclass(frozen=True)
class Task:
    """One task: an object and how to hold it.

    name: robosuite's environment name.
    object_name: its name in the model, e.g. `Can`; `<object_name>_main` is its root body.
    bin_index: row of `env.target_bin_placements`; None when the task only lifts.
    half_width: half the object's extent between the finger pads.
    radius: half its largest horizontal extent along an axis.
    below, above: from its origin down to its lowest and up to its highest point, when it stands.
    grasp_height: from its origin up to where the finger pads should hold it.
    grasp_axis: direction in the object frame, as an angle about z from object x, that the fingers close along.
    grasp_period: the grasp looks the same after a turn by this angle; 0 when every angle will do.
    """

    name: str
    object_name: str
    bin_index: int | None
    half_width: float
    radius: float
    below: float
    above: float
    grasp_height: float
    grasp_axis: float
    grasp_period: float

    @property
    def grip_below(self) -> float:
        """Height above the origin below which the pads, 0.008 to each side of their middle, have hold of the object."""
        return self.above - 0.012


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("PickPlaceCan", "Can", 3, 0.025, 0.025, 0.040, 0.040, 0.015, 0.0, 0.0),
        Task("PickPlaceMilk", "Milk", 0, 0.020, 0.020, 0.061, 0.083, 0.050, 0.0, pi / 2),
        Task("PickPlaceBread", "Bread", 1, 0.024, 0.024, 0.024, 0.025, -0.008, 0.0, pi / 2),
        Task("PickPlaceCereal", "Cereal", 2, 0.015, 0.050, 0.075, 0.075, 0.045, pi / 2, pi),
        Task("Lift", "cube", None, 0.022, 0.022, 0.020, 0.020, 0.000, 0.0, pi / 2),
    )
}


@dataclass(frozen=True)
class TaskGeometry:
    """All that a policy may know besides the observations, fixed for a task.

    target: world position at which the object's origin should come to rest (a bin), or to which it should be lifted;
        for a lift only z counts.
    position_scale: metres that one unit of action asks the hand to move (`output_max` of the controller).
    rotation_scale: radians that one unit of action asks it to turn.
    """

    task: Task
    target: tuple[float, float, float]
    position_scale: float
    rotation_scale: float


def find_task(name: str) -> Task:
    """The task of that name; ConfigurationError lists the names there are."""
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigurationError(
            f"expected a robosuite task among {', '.join(TASKS)}; found {name!r}. Choose one of these names."
        ) from None
