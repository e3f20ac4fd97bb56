"""robosuite's own way to collect, as its users script it: the thing that Headrace is measured against.

Camera observations on (every step renders every camera), raw arrays gathered in memory as DataCollectionWrapper gathers
states, and one gzip-compressed HDF5 file an episode, written in the loop. The policy and the seeds are the same.

    python -m producers.robosuite.baseline --start-idx 0 --end-idx 1 --out DIR
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tyro
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.robosuite import library
from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.policy import ScriptedPickPlacePolicy
from producers.robosuite.seeds import episode_seed


@dataclass(frozen=True)
class BaselineFlags:
    """Collect episodes [start_idx, end_idx) with robosuite's own renderer; prints one JSON line."""

    out: Path
    """Directory for the HDF5 files."""
    env: str = "PickPlaceCan"
    """Task."""
    start_idx: int = 0
    """First episode index."""
    end_idx: int = 1
    """End of the indices, excluded."""
    seed: int = 0
    """Base seed."""
    control_freq: int = 50
    """Control steps per simulated second [Hz]."""
    camera_names: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    """Cameras."""
    camera_height: int = 480
    """Image height [pixels]."""
    camera_width: int = 640
    """Image width [pixels]."""
    horizon: int = 1000
    """Longest episode [steps]."""


class CameraEnvironment:
    """robosuite's environment with its camera observations, stepped as its documentation shows."""

    def __init__(self, flags: BaselineFlags, kwargs: dict[str, Any], object_name: str) -> None:
        self._object = object_name
        self._flags = flags
        self.env = library.load().make(
            flags.env,
            **{
                **kwargs,
                "has_offscreen_renderer": True,
                "use_camera_obs": True,
                "camera_names": list(flags.camera_names),
                "camera_heights": flags.camera_height,
                "camera_widths": flags.camera_width,
            },
            renderer="mujoco",
            hard_reset=False,
            horizon=2**31,
            seed=0,
        )

    def reset(self, seed: int) -> tuple[TimeStep, dict[str, Any]]:
        """Begin an episode."""
        self.env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        return self._seen(self.env.reset())

    def step(self, action: NDArray[np.float32]) -> tuple[TimeStep, dict[str, Any]]:
        """One control step, with its camera images."""
        return self._seen(self.env.step(action)[0])

    def _seen(self, raw: dict[str, Any]) -> tuple[TimeStep, dict[str, Any]]:
        observation = {
            "observations/qpos": np.concatenate([raw["robot0_joint_pos"], raw["robot0_gripper_qpos"]]),
            "observations/qvel": np.concatenate([raw["robot0_joint_vel"], raw["robot0_gripper_qvel"]]),
            "observations/eef_pos": raw["robot0_eef_pos"],
            "observations/eef_quat": raw["robot0_eef_quat"],
            "observations/gripper_qpos": raw["robot0_gripper_qpos"],
            "observations/object_pos": raw[f"{self._object}_pos"],
            "observations/object_quat": raw[f"{self._object}_quat"],
        }
        images = {name: raw[f"{name}_image"][::-1] for name in self._flags.camera_names}
        timestep = TimeStep(observation, bool(self.env._check_success()), False)
        return timestep, {"state": self.env.sim.get_state().flatten(), "images": images}


def collect(
    environment: CameraEnvironment, policy: ScriptedPickPlacePolicy, flags: BaselineFlags, index: int
) -> dict[str, Any]:
    """One episode and its file; returns what it cost."""
    wall, cpu = time.perf_counter(), sum(os.times()[:2])
    timestep, extra = environment.reset(episode_seed(flags.seed, index))
    policy.reset(timestep)
    rows: dict[str, list[Any]] = {"action": [], "states": [], "qpos": [], "qvel": []}
    images: dict[str, list[Any]] = {name: [] for name in flags.camera_names}
    for _ in range(flags.horizon):
        action = policy.act(timestep)
        rows["action"].append(action)
        rows["states"].append(extra["state"])
        rows["qpos"].append(timestep.observation["observations/qpos"])
        rows["qvel"].append(timestep.observation["observations/qvel"])
        for name, image in extra["images"].items():
            images[name].append(np.ascontiguousarray(image))
        timestep, extra = environment.step(action)
        if timestep.last or policy.done(timestep):
            break
    steps = len(rows["action"])
    with h5py.File(flags.out / f"episode_{index}.hdf5", "w") as file:
        for name, values in rows.items():
            file.create_dataset(name, data=np.stack(values), compression="gzip")
        for name, frames in images.items():
            data = np.stack(frames)
            file.create_dataset(f"images/{name}", data=data, chunks=(1, *data.shape[1:]), compression="gzip")
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": sum(os.times()[:2]) - cpu}
    return {"index": index, "steps": steps, "success": timestep.success, **spent}


def main(argv: Sequence[str] | None = None) -> int:
    """Collect and print the costs. The environment variables for OpenGL are set by whoever starts this."""
    flags = tyro.cli(BaselineFlags, args=argv)
    flags.out.mkdir(parents=True, exist_ok=True)
    ours = RobosuiteEnvironment(
        RobosuiteConfig(task=flags.env, control_freq_hz=flags.control_freq, camera_names=flags.camera_names)
    )
    environment = CameraEnvironment(flags, ours.env_args()["env_kwargs"], ours.task.object_name)
    policy = ScriptedPickPlacePolicy(ours.geometry)
    environment.step(np.zeros(7, np.float32))  # compile and warm up before the clock starts
    rows = [collect(environment, policy, flags, index) for index in range(flags.start_idx, flags.end_idx)]
    sys.stdout.write(json.dumps({"episodes": rows}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
