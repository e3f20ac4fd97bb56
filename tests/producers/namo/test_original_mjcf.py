"""A file like the original's is simulated as it is: motors, RK4, free joints, geoms that carry the offset."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from producers.namo.driver import ContactLog, Course, drive
from producers.namo.mjcf_model import Physics, PhysicsError
from producers.namo.push import PushCode
from producers.namo.simulation import Simulation
from producers.namo.world import World, WorldConfig
from protocol.namo.scene import Box, Scene, State
from tests.producers.namo.rooms import segment_distance

YAW = 40.0
FILE = """
<mujoco>
  <option cone="elliptic" integrator="RK4" timestep="0.01"/>
  <default><geom density="1"/></default>
  <worldbody>
    <geom condim="4" friction="0.5 0.005 0.001" name="floor" size="0 0 0.05" type="plane"/>
    <body name="walls">
      <geom condim="4" name="wall_1" pos="-2 0 0.3" size="0.05 2 0.3" type="box"/>
      <geom condim="4" name="wall_2" pos="2 0 0.3" size="0.05 2 0.3" type="box"/>
      <geom condim="4" name="wall_3" pos="0 -2 0.3" size="2 0.05 0.3" type="box"/>
      <geom condim="4" name="wall_4" pos="0 2 0.3" size="2 0.05 0.3" type="box"/>
    </body>
    <body name="robot">
      <joint axis="1 0 0" name="joint_x" pos="0 0 0" type="slide"/>
      <joint axis="0 1 0" name="joint_y" pos="0 0 0" type="slide"/>
      <geom condim="4" friction="1.0 0.005 0.0001" mass="5.0" name="robot" pos="-1.2 -0.4 0.15" size="0.15"
            type="sphere"/>
    </body>
    <body name="obstacle_1_movable">
      <geom condim="4" euler="0 0 %s" friction="0.0 0.005 0.001" mass="0.1" name="obstacle_1_movable"
            pos="0.1 0.2 0.3" size="0.3 0.4 0.3" type="box"/>
      <joint type="free"/>
    </body>
    <site name="goal" pos="1.5 1.5 0" size="0.25"/>
  </worldbody>
  <actuator>%s</actuator>
</mujoco>
"""
MOTORS = "".join(f'<motor gear="1" ctrllimited="true" ctrlrange="-1 1" joint="joint_{axis}"/>' for axis in "xy")
SERVOS = "".join(f'<velocity kv="50" ctrlrange="-0.5 0.5" forcerange="-20 20" joint="joint_{axis}"/>' for axis in "xy")
WALLS = ((-2, 0, 0.05, 2), (2, 0, 0.05, 2), (0, -2, 2, 0.05), (0, 2, 2, 0.05))
SCENE = Scene(
    "original",
    (-2, 2, -2, 2),
    (-1.2, -0.4),
    (9, 9),
    tuple(Box(f"wall_{n + 1}", x, y, 0, half_x, half_y) for n, (x, y, half_x, half_y) in enumerate(WALLS)),
    (Box("obstacle_1_movable", 0.1, 0.2, np.radians(YAW), 0.3, 0.4),),
)


@pytest.mark.parametrize("actuators", [MOTORS, SERVOS])
@pytest.mark.parametrize("teleport", [False, True])
def test_it_is_pushed_and_read_back_in_world_coordinates(actuators: str, teleport: bool) -> None:
    world = World(SCENE, Physics.FREE, WorldConfig(teleport=teleport), FILE % (YAW, actuators))
    start = world.initial()
    assert world.reachable(start) == ("obstacle_1_movable",)
    yaw = np.radians(YAW)
    target = (0.1 + 0.4 * np.cos(yaw), 0.2 + 0.4 * np.sin(yaw), yaw)
    result = world.push(start, "obstacle_1_movable", target)
    assert result.code is PushCode.REACHED
    assert result.achieved[:2] == pytest.approx(target[:2], abs=0.1)
    assert result.achieved[2] == pytest.approx(yaw, abs=0.2)
    again = World(SCENE, Physics.FREE, WorldConfig(teleport=teleport), FILE % (YAW, actuators))
    assert again.push(start, "obstacle_1_movable", target).after.key == result.after.key


def test_its_own_pose_is_the_scenes() -> None:
    world = World(SCENE, Physics.FREE, xml=FILE % (YAW, MOTORS))
    result = world.push(world.initial(), "obstacle_1_movable", (0.1, 0.2, np.radians(YAW)))
    assert result.code is PushCode.REACHED
    assert result.primitives == ()


def test_a_file_that_cannot_be_simulated_is_one_clear_error() -> None:
    with pytest.raises(PhysicsError, match="original: expected MJCF"):
        World(SCENE, Physics.FREE, xml="<mujoco><worldbody>")
    with pytest.raises(PhysicsError, match="needs one actuator"):
        World(SCENE, Physics.FREE, xml=FILE % (YAW, ""))
    with pytest.raises(PhysicsError, match="found none"):
        World(SCENE, Physics.FREE, xml=(FILE % (YAW, MOTORS)).replace("obstacle_1", "box_1"))


@pytest.mark.parametrize("actuators", [MOTORS, SERVOS])
def test_a_weak_robot_still_follows_its_way(actuators: str) -> None:
    simulation, log = Simulation(SCENE, Physics.FREE, FILE % (YAW, actuators)), ContactLog()
    way = np.array([(-1.2, -0.4), (-1.4, -1.2), (1.5, -1.5)])
    simulation.set(State.initial(SCENE))
    track: list[tuple[float, float]] = []
    move = simulation.move

    def noted(vx: float, vy: float) -> None:
        move(vx, vy)
        track.append(simulation.robot())

    simulation.move = noted  # type: ignore[method-assign]
    assert drive(simulation, Course(way, 2.0), log)
    assert not (log.robot_wall)
    assert not (log.robot_movable)
    for x, y in track:
        assert min(segment_distance((x, y), a, b) for a, b in itertools.pairwise(way)) < 0.04
