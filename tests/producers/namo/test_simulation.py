"""Setting and reading states, whatever the model's coordinates are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from producers.namo.bodies import wrapped
from producers.namo.mjcf_model import Physics, PhysicsError
from producers.namo.simulation import Simulation
from protocol.namo.scene import State
from tests.producers.namo.rooms import box, room
from tests.producers.namo.test_original_mjcf import FILE, MOTORS, SCENE, YAW

BOXES = room([box(0, 0, 0, 0.3), box(1, 1.2, 1.0, -2.0, (0.2, 0.4)), box(2, 0.3, -1.2, 3.0, (0.5, 0.2))])
PLACES = State(np.array([-0.7, 1.1]), np.array([[0.1, 0.2, -3.1], [1.3, -0.4, 1.6], [-1.2, -1.3, 0.7]]))


@pytest.mark.parametrize("physics", list(Physics))
def test_what_is_set_is_read(physics: Physics) -> None:
    simulation = Simulation(BOXES, physics)
    for state in (State.initial(BOXES), PLACES):
        simulation.set(state)
        found = simulation.read()
        np.testing.assert_allclose(found.robot, state.robot, atol=1e-12)
        np.testing.assert_allclose(found.movables, state.movables, atol=1e-12)


def test_a_geom_that_carries_the_offset_is_where_the_scene_says() -> None:
    simulation = Simulation(SCENE, Physics.FREE, FILE % (YAW, MOTORS))
    for robot, pose in (((-1.2, -0.4), (0.1, 0.2, np.radians(YAW))), ((1.0, 1.1), (-0.7, -0.9, -2.5))):
        simulation.set(State(np.array(robot), np.array([pose])))
        found = simulation.read()
        np.testing.assert_allclose(found.robot, robot, atol=1e-12)
        np.testing.assert_allclose(found.movables, [pose], atol=1e-12)


@pytest.mark.parametrize("physics", list(Physics))
def test_boxes_at_rest_stay(physics: Physics) -> None:
    simulation = Simulation(BOXES, physics)
    simulation.set(PLACES)
    for _ in range(50):
        simulation.move(0.0, 0.0)
    assert simulation.at_rest
    np.testing.assert_allclose(simulation.read().movables, PLACES.movables, atol=1e-4)


@pytest.mark.parametrize("physics", list(Physics))
def test_who_touches_whom(physics: Physics) -> None:
    scene = room([box(0, 0, 0), box(1, 0.599, 0), box(2, 1.651, -1.0)])
    simulation = Simulation(scene, physics)
    simulation.set(State(np.array([-0.449, 0.0]), State.initial(scene).movables))
    touches = simulation.touches(0)
    assert touches.robot_pushed
    assert touches.others == (1,)
    assert (touches.robot_wall, touches.robot_movable, touches.pushed_wall) == (False, False, False)
    assert simulation.touches(1).robot_movable
    assert simulation.touches(2).pushed_wall
    simulation.set(State(np.array([-1.801, 1.0]), State.initial(scene).movables))
    assert simulation.touches(0).robot_wall


@pytest.mark.parametrize("bad", [float("nan"), 1e300])
def test_a_breakdown_of_the_physics_is_an_error(bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log to the working directory
    simulation = Simulation(BOXES, Physics.PLANAR)
    simulation.set(State(PLACES.robot, PLACES.movables + bad))
    simulation.move(0.0, 0.0)
    with pytest.raises(PhysicsError, match="room: MuJoCo's numbers went bad"):
        simulation.read()
    simulation.set(PLACES)
    assert simulation.read().key == PLACES.key


def test_yaws_are_wrapped_without_rounding() -> None:
    assert [wrapped(yaw) for yaw in (0.1, -3.0, np.pi)] == [0.1, -3.0, np.pi]
    assert wrapped(3.5) == pytest.approx(3.5 - 2 * np.pi)
    assert wrapped(-10.0) == pytest.approx(-10.0 + 4 * np.pi)
