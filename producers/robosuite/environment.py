"""robosuite as an Environment: physics only, seeded, and the same in every process.

Data format, one row per step; `world` is MuJoCo's frame, z up:

    observations/qpos          float32[9]   7 arm joints [rad], 2 gripper fingers [m]
    observations/qvel          float32[9]   their velocities [rad/s], [m/s]
    observations/eef_pos       float32[3]   grip site in world [m]
    observations/eef_quat      float32[4]   hand body (right_hand) in world, x y z w; robosuite's `robot0_eef_quat`
    observations/gripper_qpos  float32[2]   finger joints [m]
    observations/object_pos    float32[3]   origin of the task's object in world [m]
    observations/object_quat   float32[4]   its orientation in world, x y z w
    states                     float64[1+nq+nv]   time, qpos, qvel: what robosuite and robomimic store as a state
    action                     float32[7]   OSC deltas in the base frame (x y z, rotation vector), gripper (1 closes)

Every row is a function of `states` in the same row: kinematics are brought up to date before they are read.
(robosuite's own observations lag by the last 2 ms substep.) The environment variables named in library.py must be set
before the first `RobosuiteEnvironment` is made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from producers.environment import TimeStep
from producers.robosuite import library
from producers.robosuite.model_xml import save_model_xml
from producers.robosuite.tasks import Task, TaskGeometry, find_task
from protocol.errors import ConfigurationError

# macros.SIMULATION_TIMESTEP is 0.002 s. robosuite truncates control_timestep / 0.002 to whole substeps.
SIMULATION_HZ = 500
# Lift draws the size of its cube when the model is built: one fixed seed builds one model everywhere.
MODEL_SEED = 0
ACTION_SIZE = 7
ROBOTS = ("Panda",)


@dataclass(frozen=True)
class RobosuiteConfig:
    """What is simulated.

    task: a name in tasks.TASKS.
    control_freq_hz: actions per simulated second; must divide 500.
    horizon_steps: the episode is `last` after so many steps.
    robot: the arm; the tasks' geometry is known for the Panda.
    camera_names: cameras that will be rendered elsewhere; here only their names are checked.
    camera_height_px, camera_width_px: recorded in `env_args`.
    """

    task: str = "PickPlaceCan"
    control_freq_hz: int = 50
    horizon_steps: int = 1000
    robot: str = "Panda"
    camera_names: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    camera_height_px: int = 480
    camera_width_px: int = 640


class Column(NamedTuple):
    """One array per step: its name in the stream, numpy dtype name, and shape of one row."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def check_control_freq(control_freq_hz: int) -> None:
    """Refuse a rate that robosuite would silently run at another one: 500 Hz must be a whole multiple of it."""
    if control_freq_hz >= 1 and SIMULATION_HZ % control_freq_hz == 0:
        return
    exact = [rate for rate in range(1, SIMULATION_HZ + 1) if SIMULATION_HZ % rate == 0]
    below = max((rate for rate in exact if rate < control_freq_hz), default=None)
    above = min((rate for rate in exact if rate > control_freq_hz), default=None)
    near = " or ".join(f"{rate} Hz" for rate in (below, above) if rate is not None)
    raise ConfigurationError(
        f"expected a control frequency that divides the simulation rate of {SIMULATION_HZ} Hz; found "
        f"{control_freq_hz} Hz, which robosuite would truncate to whole 2 ms substeps. Use {near}."
    )


class RobosuiteEnvironment:
    """One robosuite task. An episode is a function of its seed and actions, whatever ran before."""

    def __init__(self, config: RobosuiteConfig) -> None:
        self.config = config
        self.task: Task = find_task(config.task)
        check_control_freq(config.control_freq_hz)
        if config.robot not in ROBOTS:
            raise ConfigurationError(f"expected a robot among {', '.join(ROBOTS)}; found {config.robot!r}.")
        suite = library.load()
        import mujoco  # not above: it reads the environment when imported; see library.py

        self._mujoco = mujoco
        self._env_kwargs = _env_kwargs(suite, config)
        self._env = suite.make(
            config.task, **self._env_kwargs, renderer="mujoco", hard_reset=False, horizon=2**31, seed=MODEL_SEED
        )
        # The first reset puts the markers and bins where every later reset leaves them; the document is of that model.
        self._env.reset()
        self._model = self._env.sim.model._model
        self._data = self._env.sim.data._data
        self._model_xml = save_model_xml(self._model)
        self._substeps = SIMULATION_HZ // config.control_freq_hz
        self._steps = 0
        self._index_model()
        self._check_cameras()

    def _index_model(self) -> None:
        """Look up once where the observed quantities lie in MuJoCo's arrays."""
        robot = self._env.robots[0]
        gripper = robot._ref_gripper_joint_pos_indexes["right"]
        self._qpos_index = np.array([*robot._ref_joint_pos_indexes, *gripper])
        self._qvel_index = np.array([*robot._ref_joint_vel_indexes, *robot._ref_gripper_joint_vel_indexes["right"]])
        self._eef_site = int(robot.eef_site_id["right"])
        self._hand_body = self._model.body(robot.robot_model.eef_name["right"]).id
        self._object_body = self._model.body(f"{self.task.object_name}_main").id

    def _check_cameras(self) -> None:
        known = self.camera_names
        for name in self.config.camera_names:
            if name not in known:
                raise ConfigurationError(
                    f"expected cameras among {', '.join(known)} for {self.task.name}; found {name!r}. "
                    "Choose among these names."
                )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Every camera of the model."""
        return tuple(self._model.camera(i).name for i in range(self._model.ncam))

    @property
    def model(self) -> Any:
        """The compiled mujoco.MjModel that simulates, for a renderer of its states."""
        return self._model

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of an episode, in the order of the data format above."""
        state_size = 1 + int(self._model.nq) + int(self._model.nv)
        return (
            Column("observations/qpos", "float32", (9,)),
            Column("observations/qvel", "float32", (9,)),
            Column("observations/eef_pos", "float32", (3,)),
            Column("observations/eef_quat", "float32", (4,)),
            Column("observations/gripper_qpos", "float32", (2,)),
            Column("observations/object_pos", "float32", (3,)),
            Column("observations/object_quat", "float32", (4,)),
            Column("states", "float64", (state_size,)),
            Column("action", "float32", (ACTION_SIZE,)),
        )

    @property
    def action_low(self) -> NDArray[np.float32]:
        """Lower limit of each action component, float32[7]."""
        return np.asarray(self._env.action_spec[0], dtype=np.float32)

    @property
    def action_high(self) -> NDArray[np.float32]:
        """Upper limit of each action component, float32[7]."""
        return np.asarray(self._env.action_spec[1], dtype=np.float32)

    @property
    def geometry(self) -> TaskGeometry:
        """What a scripted policy may know of this task besides the observations."""
        controller = self._env.robots[0].part_controllers["right"]
        if self.task.bin_index is None:
            # Lift succeeds with the cube 0.04 above the table (environments/manipulation/lift.py): go 0.10 higher.
            target = np.array([0.0, 0.0, float(self._env.model.mujoco_arena.table_offset[2]) + 0.14])
        else:
            # z of the placement is that of the bin's body; its floor is 0.02 thick (arenas/bins_arena.xml).
            target = self._env.target_bin_placements[self.task.bin_index] + [0.0, 0.0, 0.02 + self.task.below]
        x, y, z = (float(value) for value in target)
        return TaskGeometry(self.task, (x, y, z), float(controller.output_max[0]), float(controller.output_max[3]))

    def model_xml(self) -> str:
        """The MJCF of the simulated model, equal on every machine."""
        return self._model_xml

    def env_args(self) -> dict[str, Any]:
        """What robomimic writes into `data.attrs["env_args"]`, JSON-able."""
        args = {
            "env_name": self.task.name,
            "type": 1,
            "env_kwargs": self._env_kwargs,
            "env_version": library.versions()["robosuite"],
        }
        document: dict[str, Any] = json.loads(json.dumps(args))
        return document

    @staticmethod
    def versions() -> dict[str, str]:
        """Versions of the packages that decide a trajectory."""
        return library.versions()

    def reset(self, seed: int) -> TimeStep:
        """Begin the episode that `seed` names.

        A soft reset builds new controllers and buffers and clears MjData with its warm start; the generator is the only
        thing that would carry on. Robot and placement samplers share it, so its state is replaced in place.
        """
        self._env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._env.reset()
        self._steps = 0
        return self._observe()

    def step(self, action: NDArray[np.float32]) -> TimeStep:
        """Apply one action, float32[7] in [-1, 1], for one control step.

        This is robosuite's own `step` (lite physics) without its observables and reward, which cost time and change
        nothing.
        """
        command = np.asarray(action, dtype=np.float64)
        for substep in range(self._substeps):
            self._mujoco.mj_step1(self._model, self._data)
            self._env._pre_action(command, substep == 0)
            self._mujoco.mj_step2(self._model, self._data)
        self._steps += 1
        return self._observe()

    def _observe(self) -> TimeStep:
        data = self._data
        state = np.concatenate(([data.time], data.qpos, data.qvel))
        self._mujoco.mj_kinematics(self._model, data)
        observation = {
            "observations/qpos": data.qpos[self._qpos_index].astype(np.float32),
            "observations/qvel": data.qvel[self._qvel_index].astype(np.float32),
            "observations/eef_pos": data.site_xpos[self._eef_site].astype(np.float32),
            "observations/eef_quat": _xyzw(data.xquat[self._hand_body]),
            "observations/gripper_qpos": data.qpos[self._qpos_index[7:]].astype(np.float32),
            "observations/object_pos": data.xpos[self._object_body].astype(np.float32),
            "observations/object_quat": _xyzw(data.xquat[self._object_body]),
            "states": state,
        }
        last = self._steps >= self.config.horizon_steps or self._diverged()
        return TimeStep(observation, bool(self._env._check_success()), last)

    def _diverged(self) -> bool:
        """MuJoCo met a NaN and has reset itself to time 0."""
        return bool(self._data.warning.number[self._mujoco.mjtWarning.mjWARN_BADQPOS :].any())


def _xyzw(wxyz: NDArray[np.float64]) -> NDArray[np.float32]:
    """MuJoCo's quaternion in robosuite's order, float32[4]."""
    return np.asarray(wxyz[[1, 2, 3, 0]], dtype=np.float32)


def _env_kwargs(suite: Any, config: RobosuiteConfig) -> dict[str, Any]:
    """Arguments of `suite.make`, the ones that robomimic stores; what must be given again to get this dynamics."""
    return {
        "robots": [config.robot],
        "controller_configs": suite.load_composite_controller_config(robot=config.robot),
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
        "ignore_done": True,
        "reward_shaping": False,
        "lite_physics": True,
        "control_freq": config.control_freq_hz,
        "camera_names": list(config.camera_names),
        "camera_heights": config.camera_height_px,
        "camera_widths": config.camera_width_px,
        "camera_depths": False,
    }
