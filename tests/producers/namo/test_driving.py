"""The robot drives: continuously, at its speed, around things, and what it runs into is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from producers.namo.driver import ContactLog, Course, drive
from producers.namo.mjcf_model import Physics
from producers.namo.simulation import Simulation
from producers.namo.world import World
from producers.namo.world_config import WorldConfig
from protocol.namo.scene import Box, State
from tests.producers.namo.rooms import box, room, segment_distance


class Tracked(Simulation):
    """Notes where the robot was after each control interval."""

    def set(self, state: State) -> None:
        super().set(state)
        self.track = [self.robot()]

    def move(self, vx: float, vy: float) -> None:
        super().move(vx, vy)
        self.track.append(self.robot())


CORNERS = np.array([(-1.5, -1.5), (1.5, -1.5), (1.5, 1.5), (-1.5, 1.5), (-1.5, 0.3)])


@pytest.mark.parametrize("physics", list(Physics))
def test_it_follows_a_way_within_centimetres_and_stops_at_its_end(physics: Physics) -> None:
    scene = room([box(0, 0, 0)], robot=(-1.5, -1.5))
    simulation, log = Tracked(scene, physics), ContactLog()
    simulation.set(State.initial(scene))
    assert drive(simulation, Course(CORNERS, 2.0), log)
    assert log == ContactLog()
    steps = [math.dist(a, b) for a, b in itertools.pairwise(simulation.track)]
    assert max(steps) <= 2.0 * simulation.control_s * 1.01
    for x, y in simulation.track:
        off = min(segment_distance((x, y), a, b) for a, b in itertools.pairwise(CORNERS))
        assert off < 0.03
    assert math.dist(simulation.robot(), CORNERS[-1]) < 0.01
    np.testing.assert_allclose(simulation.read().movables, [[0, 0, 0]], atol=1e-3)


def test_a_box_in_the_way_is_noted() -> None:
    scene = room([box(0, 0, 0)])
    simulation, log = Simulation(scene, Physics.PLANAR), ContactLog()
    simulation.set(State.initial(scene))
    assert drive(simulation, Course(np.array([(-1.5, 0.0), (0.5, 0.0)]), 2.0), log)
    assert log.robot_movable
    assert simulation.read().movables[0, 0] > 0.5


def test_a_wall_in_the_way_ends_a_drive() -> None:
    scene = room([], walls=[Box("wall_5", 0, 0, 0, 0.05, 1.0)])
    simulation, log = Simulation(scene, Physics.PLANAR), ContactLog()
    simulation.set(State.initial(scene))
    assert not drive(simulation, Course(np.array([(-1.5, 0.0), (1.5, 0.0)]), 2.0), log)
    assert log.robot_wall


def test_a_push_drives_around_the_box_unless_it_teleports() -> None:
    scene, target = room([box(0, 0, 0)]), (-0.4, 0.0, 0.0)
    driven = World(scene).push(State.initial(scene), "obstacle_0_movable", target)
    assert driven.code == "reached"
    assert driven.primitives[0].path_m > math.pi * 0.3 + 1.0
    teleported = World(scene, config=WorldConfig(teleport=True)).push(
        State.initial(scene), "obstacle_0_movable", target
    )
    assert teleported.code == "reached"
    assert teleported.primitives[0].path_m == 0.0
    assert teleported.primitives[0].sim_steps < driven.primitives[0].sim_steps
    assert teleported.achieved == pytest.approx(driven.achieved, abs=0.01)
