"""The table of motion primitives, against its own integration and against MuJoCo; and what is chosen from it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from producers.namo.mjcf_model import Physics
from producers.namo.primitives import STEP_M, STEPS, choose, mean_radius, pose_cost, table
from producers.namo.pusher import Pusher, Task
from producers.namo.simulation import Simulation
from producers.namo.world import World
from producers.namo.world_config import WorldConfig
from protocol.namo.edges import EDGES, edge_points, face_points, reachable_edges
from protocol.namo.scene import State
from protocol.namo.wavefront import Wavefront
from tests.producers.namo.rooms import box, room

CENTRES, ALL = (1, 4, 7, 10), np.ones(EDGES, np.bool_)


def test_edge_points_stand_off_each_face_by_the_same_gap() -> None:
    brick = box(0, 0.5, -0.2, 0.7, (0.5, 0.2))
    points, normals = edge_points(brick, (0.5, -0.2, 0.7), 0.15)
    scene = room([brick])
    reach = Wavefront(scene).reach(State.initial(scene))
    np.testing.assert_allclose(reach.clearance(points), 0.17)
    np.testing.assert_allclose(np.hypot(*normals.T), 1.0)
    np.testing.assert_allclose(reach.clearance(points + 0.17 * normals), 0.0, atol=1e-12)
    middle = points[list(CENTRES)] + normals[list(CENTRES)] * np.array([0.67, 0.37, 0.67, 0.37])[:, None]
    np.testing.assert_allclose(middle, [(0.5, -0.2)] * 4)


def test_an_edge_point_at_a_wall_or_another_box_is_not_reachable() -> None:
    scene = room([box(0, 1.5, 0), box(1, 1.5, 0.9)])
    reach = Wavefront(scene).reach(State.initial(scene))
    usable = reachable_edges(reach, scene.movables[0], (1.5, 0.0, 0.0)).reshape(4, 3)
    assert usable.any(axis=1).tolist() == [False, False, True, True]
    assert usable[2].all()


@pytest.mark.parametrize("half", [(0.3, 0.3), (0.6, 0.2)])
def test_the_table_is_the_integral_of_its_first_step(half: tuple[float, float]) -> None:
    moves = table(*half)
    assert moves.shape == (EDGES, STEPS, 3)
    for edge in range(EDGES):
        pose = np.zeros(3)
        for step in range(STEPS):
            cos, sin = math.cos(pose[2]), math.sin(pose[2])
            dx, dy, turn = moves[edge, 0]
            pose += (cos * dx - sin * dy, sin * dx + cos * dy, turn)
            np.testing.assert_allclose(moves[edge, step], pose, atol=1e-12)
    # Inwards the contact goes as far as the robot does, whether it slides or not.
    points, normals = face_points(box(0, 0, 0, half=half))
    short = table(*half)[:, 0]
    moved = short[:, :2] + short[:, 2:] * np.stack([-points[:, 1], points[:, 0]], axis=1)
    np.testing.assert_allclose((moved * normals).sum(axis=1), STEP_M, atol=0.01)
    # A push in the middle of a face does not turn; those at its two ends mirror each other.
    np.testing.assert_allclose(short[list(CENTRES), 2], 0, atol=1e-12)
    np.testing.assert_allclose(short[::3, 2], -short[2::3, 2])


@pytest.mark.parametrize("physics", list(Physics))
@pytest.mark.parametrize("half", [(0.3, 0.3), (0.5, 0.25)])
def test_the_table_is_near_to_what_mujoco_does(physics: Physics, half: tuple[float, float]) -> None:
    scene = room([box(0, 0, 0, half=half)])
    pusher = Pusher(scene, Simulation(scene, physics), WorldConfig())
    reach = Wavefront(scene).reach(State.initial(scene))
    for edge in range(EDGES):
        primitive, after = pusher.execute(reach, Task(0, edge, 3))
        assert primitive is not None
        predicted, found = table(*half)[edge, 2], after.movables[0]
        assert float(np.hypot(*(found - predicted)[:2])) < 0.1
        assert found[2] == pytest.approx(predicted[2], abs=0.45 * abs(predicted[2]) + 0.03)


def test_the_choice_is_the_best_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    brick = box(0, 0, 0, half=(0.4, 0.25))
    for _ in range(20):
        pose = tuple(rng.uniform((-1, -1, -3), (1, 1, 3)).tolist())
        target = tuple((np.array(pose) + rng.uniform((-0.8, -0.8, -1), (0.8, 0.8, 1))).tolist())
        choice = choose(brick, pose, target, ALL)
        assert choice is not None
        assert choice.cost < float(pose_cost(np.array(pose), target))
        restricted = ALL.copy()
        restricted[choice.edge] = False
        other = choose(brick, pose, target, restricted)
        assert other is None or other.cost >= choice.cost


def test_nothing_is_chosen_when_nothing_helps() -> None:
    only = np.zeros(EDGES, np.bool_)
    only[1] = True  # pushes towards -x
    assert choose(box(0, 0, 0), (0.0, 0.0, 0.0), (0.5, 0.0, 0.0), only) is None
    assert choose(box(0, 0, 0), (0.0, 0.0, 0.0), (-0.5, 0.0, 0.0), only) is not None
    assert choose(box(0, 0, 0), (0.0, 0.0, 0.0), (-0.5, 0.0, 0.0), ~ALL) is None


def test_half_a_turn_is_no_turn() -> None:
    assert float(pose_cost(np.array([0.0, 0.0, 0.0]), (0.0, 0.0, math.pi))) == pytest.approx(0.0)
    assert float(pose_cost(np.array([0.0, 0.0, 3.0]), (3.0, 4.0, -3.0))) == pytest.approx(5 + 0.5 * (2 * math.pi - 6))


def test_the_mean_radius_of_a_thin_box_is_half_its_half() -> None:
    assert mean_radius(1.0, 1e-6) == pytest.approx(0.5, abs=1e-3)
    assert mean_radius(1.0, 1.0) == pytest.approx((math.sqrt(2) + math.asinh(1)) / 3, abs=1e-3)


def test_most_free_boxes_get_to_random_targets() -> None:
    rng, reached = np.random.default_rng(3), 0
    for _ in range(12):
        half = tuple(rng.uniform(0.2, 0.4, 2).tolist())
        world = World(room([box(0, 0, 0, float(rng.uniform(-3, 3)), half)], robot=(-1.7, -1.7)))
        way, away = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 0.8)
        target = (away * math.cos(way), away * math.sin(way), float(rng.uniform(-3, 3)))
        reached += world.push(world.initial(), "obstacle_0_movable", target).code == "reached"
    assert reached >= 9
