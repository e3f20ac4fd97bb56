"""The scripted policy: what its parts promise, and that it does the tasks quickly."""

from __future__ import annotations

import functools
from math import pi
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.fingers import Fingers
from producers.robosuite.motion import hand_yaw, rotate, speed_for, translate, yaw_to_grasp
from producers.robosuite.policy import ScriptedPickPlacePolicy
from producers.robosuite.policy_bench import Tally, figures
from producers.robosuite.tasks import TASKS

CAN = "PickPlaceCan"


class Outcome(NamedTuple):
    """One episode: did it succeed when the policy was done, in how many steps, by which actions float32[T, 7]."""

    success: bool
    steps: int
    actions: NDArray[np.float32]


@functools.cache
def environment(task: str) -> RobosuiteEnvironment:
    return RobosuiteEnvironment(RobosuiteConfig(task=task))


def run(task: str, seed: int, policy: ScriptedPickPlacePolicy) -> Outcome:
    timestep = environment(task).reset(seed)
    policy.reset(timestep)
    actions = []
    while not (timestep.last or policy.done(timestep)):
        actions.append(policy.act(timestep))
        timestep = environment(task).step(actions[-1])
    return Outcome(timestep.success, len(actions), np.stack(actions))


@functools.cache
def twenty_cans() -> tuple[Outcome, ...]:
    policy = ScriptedPickPlacePolicy(environment(CAN).geometry)
    return tuple(run(CAN, seed, policy) for seed in range(20))


def test_cans_reach_their_bin_quickly() -> None:
    outcomes = twenty_cans()
    assert sum(outcome.success for outcome in outcomes) >= 19
    assert np.mean([outcome.steps for outcome in outcomes]) <= 220


def test_it_needs_half_the_steps_of_the_policy_without_adaptive_features() -> None:
    plain = ScriptedPickPlacePolicy(environment(CAN).geometry, adaptive=False)
    seeds = range(4)
    slow = [run(CAN, seed, plain) for seed in seeds]
    assert all(outcome.success for outcome in slow)
    fast = [twenty_cans()[seed].steps for seed in seeds]
    assert sum(fast) <= 0.55 * sum(outcome.steps for outcome in slow)


@pytest.mark.parametrize("task", [name for name in TASKS if name != CAN])
def test_every_task_is_done(task: str) -> None:
    policy = ScriptedPickPlacePolicy(environment(task).geometry)
    assert [run(task, seed, policy).success for seed in range(3)] == [True, True, True]


def test_actions_are_what_the_controller_takes() -> None:
    actions = np.concatenate([outcome.actions for outcome in twenty_cans()])
    assert actions.dtype == np.float32
    assert actions.shape[1:] == (7,)
    assert np.abs(actions).max() <= 1.0
    assert set(np.unique(actions[:, 6])) <= {-1.0, 0.0, 1.0}


def test_an_episode_leaves_nothing_behind_in_the_policy() -> None:
    policy = ScriptedPickPlacePolicy(environment(CAN).geometry)
    run(CAN, 3, policy)
    timestep = environment(CAN).reset(5)
    policy.reset(timestep)
    policy.act(timestep)
    np.testing.assert_array_equal(run(CAN, 1, policy).actions, twenty_cans()[1].actions)


@pytest.mark.parametrize(
    ("distance", "stick"),
    [(0.5, 1.0), (0.151, 1.0), (0.149, 0.75), (0.081, 0.75), (0.079, 0.5), (0.031, 0.5), (0.029, 0.25), (0.0, 0.25)],
)
def test_speed_falls_in_bands(distance: float, stick: float) -> None:
    assert speed_for(distance, 2.0) == stick


@pytest.mark.parametrize(("multiplier", "far"), [(1.0, 0.5), (1.5, 0.75), (2.0, 1.0), (9.0, 1.0)])
def test_the_multiplier_is_that_of_the_far_band_and_never_exceeds_the_stick(multiplier: float, far: float) -> None:
    assert speed_for(1.0, multiplier) == far
    assert all(speed_for(distance, multiplier) <= far for distance in (0.1, 0.05, 0.01))


def test_an_axis_slows_down_only_within_its_own_reach() -> None:
    move = translate(np.array([0.3, -0.3, 0.01]), speed=0.5, position_scale=0.05)
    np.testing.assert_allclose(move, [0.5, -0.5, 0.2])


def pointing_down(yaw: float) -> NDArray[np.float64]:
    return np.array([np.cos(yaw / 2), np.sin(yaw / 2), 0.0, 0.0])


@pytest.mark.parametrize("yaw", [-2.0, -0.4, 0.0, 0.4, 2.0])
def test_the_hand_turns_the_short_way(yaw: float) -> None:
    assert hand_yaw(pointing_down(yaw)) == pytest.approx(yaw)
    for hand in (pointing_down(yaw), -pointing_down(yaw)):
        np.testing.assert_allclose(rotate(hand, yaw, 0.5), np.zeros(3), atol=1e-6)
        np.testing.assert_allclose(rotate(hand, yaw + 0.1, 0.5), [0.0, 0.0, 0.2], atol=1e-6)


def test_a_tilted_hand_is_turned_back_upright() -> None:
    # Turned by +0.1 rad about world y after pointing down.
    tilted = np.array([np.cos(0.05), 0.0, -np.sin(0.05), 0.0])
    np.testing.assert_allclose(rotate(tilted, 0.0, 0.5), [0.0, -0.2, 0.0], atol=1e-6)


@pytest.mark.parametrize("turn", [-3.0, -1.0, 0.0, 0.7, 2.5])
def test_the_fingers_close_across_the_narrow_side(turn: float) -> None:
    upright = np.array([0.0, 0.0, np.sin(turn / 2), np.cos(turn / 2)])
    yaw = yaw_to_grasp(upright, grasp_axis=pi / 2, period=pi, near=0.0)
    assert abs(yaw) <= pi / 2
    # At yaw 0 they close along world y, the narrow side of an object that is not turned.
    assert np.sin(yaw - turn) == pytest.approx(0.0, abs=1e-9)


def test_the_setpoint_is_counted_as_robosuite_moves_it() -> None:
    fingers = Fingers()
    simulated = environment("Lift")
    simulated.reset(0)
    gripper = simulated._env.robots[0].gripper["right"]
    moves = [fingers.open] * 7 + [fingers.close] * 13 + [lambda: fingers.narrow_to(0.03)] * 12
    for move in moves:
        stick = move()
        simulated.step(np.array([0, 0, 0, 0, 0, 0, stick], dtype=np.float32))
        assert fingers.setpoint == pytest.approx((gripper.current_action[0] + 1.0) * 0.02, abs=1e-9)
    assert fingers.setpoint == pytest.approx(0.032)


@pytest.mark.parametrize("half_opening", [*(tenths * 0.004 for tenths in range(11)), 0.025 + 0.011, 0.0301, 0.1, -0.1])
def test_the_fingers_come_to_rest_at_every_opening(half_opening: float) -> None:
    """They did not at 0.025 + 0.011 m, which is a little more than nine tenths of the travel, but for rounding."""
    for moves_before in range(11):
        fingers = Fingers()
        for _ in range(moves_before):
            fingers.open()
        actions = [fingers.narrow_to(half_opening) for _ in range(13)]
        assert actions[10:] == [0.0, 0.0, 0.0]
        assert len(set(actions) - {0.0}) <= 1
        assert fingers.setpoint >= min(half_opening, 0.04) - 1e-9


@pytest.mark.parametrize(("fast", "holds"), [(100, True), (101, False)])
def test_figures_say_whether_they_hold(fast: int, holds: bool) -> None:
    adaptive = Tally("adaptive", [True] * 9 + [False], [fast] * 10, 1.0)
    plain = Tally("plain", [True] * 10, [200] * 10, 1.0)
    success, steps, ratio = figures(adaptive, plain)
    assert (success["name"], success["value"], success["holds"]) == ("policy.success", 0.9, False)
    assert (steps["name"], steps["value"], steps["holds"]) == ("policy.mean_steps", fast, True)
    assert (ratio["name"], ratio["value"], ratio["holds"]) == ("policy.steps_vs_plain", fast / 200, holds)
    assert success["runs"] == [1.0, 1.0, 1.0, pytest.approx(2 / 3)]
