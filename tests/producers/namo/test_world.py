"""Pushes in MuJoCo: what moves, which code ends them, and that nothing depends on what was before."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from producers.namo.mjcf_model import Physics
from producers.namo.push import PushCode
from producers.namo.world import World, WorldConfig
from protocol.namo.scene import Box, State
from tests.producers.namo.rooms import THICK, box, divided, room

BOTH = pytest.mark.parametrize("physics", list(Physics))


@BOTH
def test_a_push_along_the_normal_moves_the_box_straight(physics: Physics) -> None:
    world = World(room([box(0, 0, 0)]), physics)
    result = world.push(world.initial(), "obstacle_0_movable", (0.5, 0.0, 0.0))
    assert result.code is PushCode.REACHED
    x, y, yaw = result.achieved
    assert x == pytest.approx(0.5, abs=0.1)
    assert y == pytest.approx(0.0, abs=0.02)
    assert yaw == pytest.approx(0.0, abs=0.05)
    assert [primitive.face for primitive in result.primitives] == [2]


def test_planar_and_free_boxes_go_the_same_way() -> None:
    scene, target = room([box(0, 0, 0, 0.4)]), (0.35, 0.16, 0.4)
    planar, free = (World(scene, physics) for physics in Physics)
    results = [world.push(world.initial(), "obstacle_0_movable", target) for world in (planar, free)]
    assert results[0].achieved == pytest.approx(results[1].achieved, abs=0.05)


@BOTH
def test_a_push_at_a_corner_turns_the_box(physics: Physics) -> None:
    world = World(room([box(0, 0, 0)]), physics)
    result = world.push(world.initial(), "obstacle_0_movable", (0.1, 0.1, 0.7))
    assert result.achieved[2] > 0.3
    assert result.primitives[0].turned_rad > 0.2
    assert {primitive.contact for primitive in result.primitives} & {0, 2}


@BOTH
def test_opening_the_goal_ends_a_push(physics: Physics) -> None:
    world = World(divided([box(0, 0, 0, half=(0.3, 0.35))]), physics)
    start = world.initial()
    assert not world.reach(start).goal_open
    result = world.push(start, "obstacle_0_movable", (1.4, 0.0, 0.0))
    assert result.code is PushCode.GOAL_OPEN
    assert result.goal_open
    end, there = world.drive_to_goal(result.after)
    assert there
    assert np.hypot(*(end.robot - np.array(world.scene.goal))) < 0.2
    assert world.drive_to_goal(start) == (start, False)


def test_a_replay_is_equal_whatever_was_done_before() -> None:
    scene = room([box(0, 0, 0, 0.3), box(1, 0.9, 0.5, 1.0), box(2, 0.2, -1.0)])
    fresh, used = World(scene), World(scene)
    targets = [("obstacle_0_movable", (0.6, 0.3, 0.9)), ("obstacle_2_movable", (-0.5, -1.2, 0.2))]
    used.push(used.initial(), "obstacle_1_movable", (1.2, 1.0, 0.0))
    for name, target in targets:
        one, other = (world.push(world.initial(), name, target) for world in (fresh, used))
        assert one.primitives == other.primitives
        assert one.after.key == other.after.key


def test_the_budget_ends_a_push_before_its_next_primitive() -> None:
    world = World(room([box(0, -0.5, 0)]))
    asked = iter([True, False])
    result = world.push(world.initial(), "obstacle_0_movable", (1.2, 0.4, 0.0), lambda: next(asked))
    assert result.code is PushCode.BUDGET
    assert len(result.primitives) == 1


def test_a_robot_without_a_way_has_no_edge() -> None:
    cage = [box(n, x, y, half=(0.1, 0.9) if x else (0.9, 0.1)) for n, (x, y) in enumerate([(-0.8, 0), (0.8, 0)])]
    lids = [box(n + 2, 0, y, half=(0.69, 0.1)) for n, y in enumerate((-0.8, 0.8))]
    world = World(room([*cage, *lids, box(4, 0, 0)]))
    start = world.initial()
    assert "obstacle_4_movable" not in world.reachable(start)
    assert world.push(start, "obstacle_4_movable", (0.1, 0.3, 0)).code is PushCode.NO_EDGE


@BOTH
def test_a_box_at_a_wall_gets_stuck(physics: Physics) -> None:
    world = World(room([box(0, 1.6, 0)]), physics)
    result = world.push(world.initial(), "obstacle_0_movable", (1.95, 0.0, 0.0))
    assert result.code in {PushCode.STUCK, PushCode.NO_IMPROVE}
    assert result.primitives[0].object_wall
    assert result.primitives[0].stuck
    assert result.achieved[0] < 1.68


@BOTH
def test_a_robot_that_runs_into_a_wall_ends_the_primitive(physics: Physics) -> None:
    posts = [Box("wall_5", 0.2, 1.1, 0, THICK, 0.97), Box("wall_6", 0.2, -1.1, 0, THICK, 0.97)]
    world = World(room([box(0, -0.4, 0, half=(0.2, 0.1))], walls=posts), physics)  # the robot is wider than the gap
    result = world.push(world.initial(), "obstacle_0_movable", (1.2, 0.0, 0.0))
    ended = [primitive for primitive in result.primitives if primitive.aborted]
    assert ended
    assert all(primitive.robot_wall and not primitive.stuck for primitive in ended)
    assert result.achieved[0] < 0.6


@BOTH
def test_what_the_object_runs_into_is_recorded(physics: Physics) -> None:
    world = World(room([box(0, -0.6, 0), box(1, 0.3, 0)]), physics)
    result = world.push(world.initial(), "obstacle_0_movable", (0.1, 0.0, 0.0))
    assert {name for primitive in result.primitives for name in primitive.object_movables} == {"obstacle_1_movable"}
    assert result.after.movables[1, 0] > 0.4


@BOTH
def test_a_heavy_box_moves_too(physics: Physics) -> None:
    heavy = msgspec.structs.replace(box(0, 0, 0), mass=30.0)
    world = World(room([heavy]), physics)
    assert world.push(world.initial(), "obstacle_0_movable", (0.5, 0.0, 0.0)).code is PushCode.REACHED


def test_two_scenes_in_one_process_do_not_mix() -> None:
    small, large = World(room([box(0, 0, 0, half=(0.2, 0.2))])), World(room([box(0, 0, 0, half=(0.6, 0.5))]))
    alone = World(room([box(0, 0, 0, half=(0.2, 0.2))]))
    target = (0.4, 0.1, 0.3)
    first = small.push(small.initial(), "obstacle_0_movable", target)
    large.push(large.initial(), "obstacle_0_movable", target)
    again = small.push(small.initial(), "obstacle_0_movable", target)
    assert first.after.key == again.after.key == alone.push(alone.initial(), "obstacle_0_movable", target).after.key


def test_a_chain_of_pushes_replays_from_its_states() -> None:
    world = World(room([box(0, 0, 0, 0.4), box(1, 0.8, 0.8)]))
    states: list[State] = [world.initial()]
    for target in ((0.5, 0.2, 0.2), (0.1, 0.6, 1.2)):
        states.append(world.push(states[-1], "obstacle_0_movable", target).after)
    replayed = World(world.scene, config=WorldConfig())
    for number, target in enumerate(((0.5, 0.2, 0.2), (0.1, 0.6, 1.2))):
        assert replayed.push(states[number], "obstacle_0_movable", target).after.key == states[number + 1].key
