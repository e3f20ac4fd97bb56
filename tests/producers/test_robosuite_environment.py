"""A robosuite episode is a function of its seed and actions, in any order and any process, and is robosuite's own."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.robosuite import library
from producers.robosuite.environment import (
    MODEL_SEED,
    RobosuiteConfig,
    RobosuiteEnvironment,
    check_control_freq,
)
from producers.robosuite.model_xml import relative_assets
from protocol.errors import ConfigurationError

TASKS = ("PickPlaceCan", "Lift")
# Prints a digest of the model and of an episode: what another process makes of the same seed.
ANOTHER_PROCESS = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from test_robosuite_environment import digest_of_episode, make
task, seed = sys.argv[2], int(sys.argv[3])
import hashlib
print(json.dumps([hashlib.sha256(make(task).model_xml().encode()).hexdigest(), digest_of_episode(make(task), seed)]))
"""


@functools.cache
def make(task: str) -> RobosuiteEnvironment:
    return RobosuiteEnvironment(RobosuiteConfig(task=task))


def actions(count: int = 40, seed: int = 0) -> NDArray[np.float32]:
    """Actions that move the arm and the gripper, float32[count, 7]."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 7)).astype(np.float32)


def rollout(environment: RobosuiteEnvironment, seed: int) -> list[TimeStep]:
    return [environment.reset(seed), *(environment.step(action) for action in actions())]


def states(steps: Sequence[TimeStep]) -> NDArray[np.generic]:
    return np.stack([step.observation["states"] for step in steps])


def digest_of_episode(environment: RobosuiteEnvironment, seed: int) -> str:
    """Of every bit of every column of an episode."""
    digest = hashlib.sha256()
    for step in rollout(environment, seed):
        for name, row in step.observation.items():
            digest.update(name.encode() + row.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_does_not_depend_on_those_before_it(task: str) -> None:
    alone = digest_of_episode(RobosuiteEnvironment(RobosuiteConfig(task=task)), 11)
    environment = make(task)
    others = [digest_of_episode(environment, seed) for seed in (5, 6)]
    assert digest_of_episode(environment, 11) == alone
    assert alone not in others
    # An episode that was left in the middle, fingers moving.
    environment.reset(7)
    for action in actions(13, seed=1):
        environment.step(action)
    assert digest_of_episode(environment, 11) == alone


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_does_not_depend_on_the_process(task: str) -> None:
    here = Path(__file__)
    paths = json.dumps([str(here.parent), str(here.parents[2])])
    command = [sys.executable, "-c", ANOTHER_PROCESS, paths, task, "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    xml = hashlib.sha256(make(task).model_xml().encode()).hexdigest()
    assert there == [xml, digest_of_episode(make(task), 11)]
    assert done.stderr == "", "importing robosuite is quiet"


@pytest.mark.parametrize("task", TASKS)
def test_the_dynamics_are_those_of_robosuite(task: str) -> None:
    environment = make(task)
    ours = states(rollout(environment, 3))
    reference = library.load().make(
        task, **environment.env_args()["env_kwargs"], renderer="mujoco", hard_reset=False, seed=MODEL_SEED
    )
    reference.rng.bit_generator.state = np.random.default_rng(3).bit_generator.state
    reference.reset()
    theirs = [reference.sim.get_state().flatten()]
    for action in actions():
        reference.step(action.astype(np.float64))
        theirs.append(reference.sim.get_state().flatten())
    reference.close()
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_rows_follow_from_the_state_and_the_model_document() -> None:
    """Whoever has `states` and the XML has everything: the XML is compiled as robosuite and robomimic do it."""
    environment = make("PickPlaceCan")
    last = rollout(environment, 2)[-1].observation
    xml = environment._env.edit_model_xml(environment.model_xml())
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    state = last["states"]
    data.time, data.qpos[:], data.qvel[:] = state[0], state[1 : 1 + model.nq], state[1 + model.nq :]
    mujoco.mj_forward(model, data)
    expected = {
        "eef_pos": data.site("gripper0_right_grip_site").xpos,
        "eef_quat": data.body("robot0_right_hand").xquat[[1, 2, 3, 0]],
        "object_pos": data.body("Can_main").xpos,
        "object_quat": data.body("Can_main").xquat[[1, 2, 3, 0]],
        "qpos": data.qpos[:9],
        "qvel": data.qvel[:9],
        "gripper_qpos": data.qpos[7:9],
    }
    for name, value in expected.items():
        row = np.asarray(last[f"observations/{name}"], dtype=np.float64)
        np.testing.assert_allclose(row, value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("task", TASKS)
def test_columns_describe_the_observation(task: str) -> None:
    environment = make(task)
    observation = environment.reset(0).observation
    described = {column.name: (column.dtype, column.shape) for column in environment.columns}
    assert described.pop("action") == ("float32", (7,))
    assert described == {name: (row.dtype.name, row.shape) for name, row in observation.items()}
    np.testing.assert_array_equal(environment.action_low, np.full(7, -1, np.float32))
    np.testing.assert_array_equal(environment.action_high, np.full(7, 1, np.float32))


def test_rows_are_not_views_of_the_simulator() -> None:
    environment = make("Lift")
    first = environment.reset(0)
    before = {name: row.copy() for name, row in first.observation.items()}
    for action in actions(5):
        environment.step(action)
    for name, row in first.observation.items():
        np.testing.assert_array_equal(row, before[name], err_msg=name)


def test_the_model_document_is_the_same_on_every_machine() -> None:
    xml = make("PickPlaceCan").model_xml()
    files = [line for line in xml.splitlines() if "file=" in line]
    assert len(files) > 20
    assert all('file="robosuite/models/assets/' in line for line in files)
    assert 'file="/' not in xml


def test_asset_paths_begin_at_their_last_robosuite_folder() -> None:
    xml = '<a file="/opt/robosuite/lib/robosuite/models/x.png"/><b file="own/y.stl" name="file"/><c/>'
    assert relative_assets(xml) == '<a file="robosuite/models/x.png"/><b file="own/y.stl" name="file"/><c/>'


def test_env_args_are_what_robomimic_reads() -> None:
    args = make("Lift").env_args()
    assert json.loads(json.dumps(args)) == args
    assert {key: args[key] for key in ("env_name", "type", "env_version")} == {
        "env_name": "Lift",
        "type": 1,
        "env_version": "1.5.2",
    }
    kwargs: dict[str, Any] = args["env_kwargs"]
    assert kwargs["robots"] == ["Panda"]
    assert kwargs["control_freq"] == 50
    assert kwargs["controller_configs"]["body_parts"]["right"]["type"] == "OSC_POSE"


def test_versions_are_those_that_decide_a_trajectory() -> None:
    assert RobosuiteEnvironment.versions() == {
        "robosuite": "1.5.2",
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
    }


def test_the_horizon_ends_an_episode() -> None:
    environment = RobosuiteEnvironment(RobosuiteConfig(task="Lift", horizon_steps=3))
    environment.reset(0)
    assert [environment.step(action).last for action in actions(3)] == [False, False, True]
    assert not environment.reset(0).last


@pytest.mark.parametrize(
    ("rate", "advice"),
    [(30, "Use 25 Hz or 50 Hz."), (60, "Use 50 Hz or 100 Hz."), (501, "Use 500 Hz."), (0, "Use 1 Hz.")],
)
def test_a_rate_that_robosuite_would_truncate_is_refused(rate: int, advice: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RobosuiteEnvironment(RobosuiteConfig(control_freq_hz=rate))
    assert f"found {rate} Hz" in str(refusal.value)
    assert str(refusal.value).endswith(advice)


@pytest.mark.parametrize("rate", [20, 25, 50, 100, 125, 250, 500])
def test_an_exact_rate_runs_whole_substeps(rate: int) -> None:
    check_control_freq(rate)
    # What robosuite computes (environments/base.py, step).
    assert int((1.0 / rate) / 0.002) == 500 // rate


def test_an_unknown_camera_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RobosuiteEnvironment(RobosuiteConfig(camera_names=("agentview", "sideview")))
    assert str(refusal.value) == (
        "expected cameras among frontview, birdview, agentview, robot0_robotview, robot0_eye_in_hand for PickPlaceCan; "
        "found 'sideview'. Choose among these names."
    )
    assert "sideview" in make("Lift").camera_names


def test_an_unknown_robot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a robot among Panda; found 'Sawyer'"):
        RobosuiteEnvironment(RobosuiteConfig(robot="Sawyer"))
