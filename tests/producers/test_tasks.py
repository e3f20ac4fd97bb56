"""The tasks' sizes, measured again on robosuite's compiled models."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.tasks import TASKS, TaskGeometry, find_task
from protocol.errors import ConfigurationError

# Metres; the sizes in tasks.py are rounded to millimetres.
ROUNDING_M = 0.0011


@functools.cache
def environment(task: str) -> RobosuiteEnvironment:
    return RobosuiteEnvironment(RobosuiteConfig(task=task))


def collision_box(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner of an object's collision geoms in the frame of its root body."""
    model = environment(name)._model
    root = model.body(f"{TASKS[name].object_name}_main").id
    corners = []
    for geom in range(model.ngeom):
        if model.body_rootid[model.geom_bodyid[geom]] != root or not model.geom_contype[geom]:
            continue
        assert model.geom_bodyid[geom] == root
        turn = np.zeros(9)
        mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            first = model.mesh_vertadr[mesh]
            points = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        else:
            signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
            points = signs * model.geom_size[geom]
        corners.append(points @ turn.reshape(3, 3).T + model.geom_pos[geom])
    points = np.concatenate(corners)
    return points.min(axis=0), points.max(axis=0)


@pytest.mark.parametrize("name", TASKS)
def test_object_sizes_are_those_of_the_model(name: str) -> None:
    task = TASKS[name]
    lowest, highest = collision_box(name)
    assert -lowest[2] == pytest.approx(task.below, abs=ROUNDING_M)
    assert highest[2] == pytest.approx(task.above, abs=ROUNDING_M)
    horizontal = (highest - lowest)[:2] / 2
    assert horizontal.max() == pytest.approx(task.radius, abs=ROUNDING_M)
    # A grasp that repeats after a quarter turn may meet either side; one after half a turn meets the narrow one.
    met = horizontal.min() if task.grasp_period > 3.0 else horizontal.max()
    assert met == pytest.approx(task.half_width, abs=ROUNDING_M)


@pytest.mark.parametrize("name", TASKS)
def test_geometry_is_that_of_the_environment(name: str) -> None:
    geometry = environment(name).geometry
    assert geometry == TaskGeometry(TASKS[name], geometry.target, position_scale=0.05, rotation_scale=0.5)
    bin_index = TASKS[name].bin_index
    if bin_index is not None:
        inner = environment(name)._env
        assert geometry.target[:2] == tuple(inner.target_bin_placements[bin_index][:2])
        assert not inner.not_in_bin(geometry.target, bin_index)


def test_an_unknown_task_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        find_task("PickPlaceSpoon")
    assert str(refusal.value) == (
        "expected a robosuite task among PickPlaceCan, PickPlaceMilk, PickPlaceBread, PickPlaceCereal, Lift; "
        "found 'PickPlaceSpoon'. Choose one of these names."
    )
