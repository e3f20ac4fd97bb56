"""`headrace export robomimic`: the HDF5 file of robomimic (Mandlekar et al. 2021).

    demo.hdf5
      data                    attrs: total, env_args
      data/demo_{i}           attrs: num_samples, model_file, index, seed, success; i from 0 without gaps
        actions               float32[T, A] within -1 and 1
        states                float64[T, D], the simulator's before each action, if the stream has them
        rewards, dones        float32[T], int64[T]: the last step of a success has reward 1, the last of all is done
        obs/NAME              a column observations/NAME, float32[T, …]
        obs/CAMERA_image      uint8[T, H, W, 3] upright RGB
        next_obs/…            the same, one step later, with --next-obs; the last is held
      mask/NAME               the demos of one --split

With --links or --follow each demo is a file of its own in demos/, and demo.hdf5 has external links to them. Nothing
is copied at the end then, and the file that readers have open stays as it was when another one takes its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import xxhash

from protocol.errors import ConfigurationError, DatasetError
from sink.export.act import chosen_cameras, write_frames
from sink.export.episode import Episode
from sink.export.flat_hdf5 import lay_out
from sink.export.plan import PARTS, Done, Plan, Written
from sink.export.whole_file import whole_file

FILE, DEMOS = "demo.hdf5", "demos"
_OBSERVATIONS = "observations/"
# robosuite's names of what `produce robosuite` stores, by which its environments give the same at a rollout.
ROBOSUITE_NAMES = {
    "eef_pos": "robot0_eef_pos",
    "eef_quat": "robot0_eef_quat",
    "gripper_qpos": "robot0_gripper_qpos",
}
# robomimic's number of an environment that it cannot make without knowing more.
_GYM = 2
_EDGE = 1 + 1e-6


@dataclass(frozen=True)
class Robomimic:
    """Write one HDF5 file of all episodes, as robomimic reads it."""

    follows: ClassVar[bool] = True

    cameras: tuple[str, ...] = ()
    """These cameras only; all if not given."""
    action: str = "action"
    """The column that becomes actions; robomimic takes them within -1 and 1."""
    states: str = "states"
    """The column that becomes states, for robomimic's playback; left out if the stream has none of this name."""
    model: str = "model_xml"
    """The document that becomes model_file; left out if the episodes have none of this name."""
    rename: tuple[str, ...] = ()
    """Other names in obs, e.g. qpos=joints; for robosuite's eef_pos, eef_quat and gripper_qpos they are robosuite's."""
    next_obs: bool = False
    """Write next_obs too, for algorithms that need it; twice the size."""
    links: bool = False
    """Each demo in a file of its own, with links to them; --follow does so always."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream has no actions or no such cameras."""
        chosen_cameras(plan, self.cameras)
        known = {column.name: column for column in plan.spec.columns}
        if self.action not in known:
            raise ConfigurationError(
                f"stream {plan.spec.name!r} has no column {self.action!r}; name another with --action: "
                f"{', '.join(known)}"
            )
        for word in self.rename:
            old, _, new = word.partition("=")
            if _OBSERVATIONS + old not in known or not new:
                there = ", ".join(name.removeprefix(_OBSERVATIONS) for name in known if name.startswith(_OBSERVATIONS))
                raise ConfigurationError(f"--rename {word!r}: expected OLD=NEW with OLD one of: {there}")

    def begin(self, plan: Plan, folder: Path) -> RobomimicWriter:
        """Nothing is shared by the episodes until all are there."""
        columns = [column.name for column in plan.spec.columns]
        own = plan.spec.name.startswith("robosuite/")
        renamed = {**(ROBOSUITE_NAMES if own else {}), **dict(word.split("=", 1) for word in self.rename)}
        return RobomimicWriter(
            flags=self,
            folder=folder,
            cameras=chosen_cameras(plan, self.cameras),
            names={
                name: renamed.get(short, short).replace("/", "_")
                for name in columns
                if name.startswith(_OBSERVATIONS)
                for short in [name.removeprefix(_OBSERVATIONS)]
            },
            has_states=self.states in columns,
            linked=self.links or plan.follow,
            splits=plan.splits,
        )


@dataclass(frozen=True)
class RobomimicWriter:
    """names: column → name in obs. linked: demos stay files of their own."""

    flags: Robomimic
    folder: Path
    cameras: tuple[str, ...]
    names: Mapping[str, str]
    has_states: bool
    linked: bool
    splits: tuple[str, ...]

    def write(self, episode: Episode) -> Written:
        """One demo, in a file of its own. Raises ConfigurationError, CorruptionError, OSError."""
        name = f"{DEMOS if self.linked else PARTS}/demo_{episode.position}.hdf5"
        groups = ("obs", "next_obs") if self.flags.next_obs else ("obs",)
        arrays = {}
        for camera in map(episode.camera, self.cameras):
            for group in groups:
                arrays[f"demo/{group}/{camera.name}_image"] = (episode.steps, camera.height, camera.width, 3)
        with whole_file(self.folder / name) as path:
            offsets = lay_out(path, arrays, lambda file: self._fill(episode, file.create_group("demo")))
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                for shift, group in enumerate(groups):
                    places = {camera: offsets[f"demo/{group}/{camera}_image"] for camera in self.cameras}
                    write_frames(fd, episode, places, episode.steps, shift)
            finally:
                os.close(fd)
        environment = xxhash.xxh64_hexdigest(_env_args(episode).encode())
        return Written((name,), episode.steps * len(self.cameras) * len(groups), {"env_args": environment})

    def _fill(self, episode: Episode, demo: h5py.Group) -> None:
        """All but the images."""
        flags = self.flags
        actions = episode.floats(flags.action)
        if (most := float(np.abs(actions).max())) > _EDGE:
            raise ConfigurationError(
                f"index {episode.index}: {flags.action!r} reaches {most:g}; robomimic takes actions within -1 and 1. "
                "Name another column with --action, or leave such episodes out"
            )
        demo["actions"] = np.clip(actions, -1, 1)
        demo["rewards"] = np.zeros(episode.steps, np.float32)
        demo["dones"] = np.zeros(episode.steps, np.int64)
        demo["rewards"][-1], demo["dones"][-1] = float(episode.success), 1
        if self.has_states:
            demo["states"] = episode.column(flags.states)
        for column, name in self.names.items():
            rows = episode.column(column).astype(np.float32)
            demo[f"obs/{name}"] = rows
            if flags.next_obs:
                demo[f"next_obs/{name}"] = np.concatenate([rows[1:], rows[-1:]])
        demo.attrs["num_samples"] = episode.steps
        demo.attrs["index"] = episode.index
        demo.attrs["seed"] = np.uint64(episode.seed)
        demo.attrs["success"] = episode.success
        model = episode.document(flags.model)
        if model is not None:
            demo.attrs["model_file"] = model.decode()
        demo.attrs["env_args"] = _env_args(episode)

    def finish(self, done: Sequence[Done]) -> Sequence[str]:
        """Make demo.hdf5 of the demos. Raises DatasetError if they are of different environments."""
        one = {each.written.details["env_args"]: each for each in done}
        if len(one) != 1:
            names = [f"demo_{each.entry.position} (index {each.entry.index})" for each in one.values()]
            raise DatasetError(
                f"{' and '.join(names[:2])} have different env_args, and one file of robomimic has one environment; "
                "export them apart, chosen with --where or --episodes"
            )
        with whole_file(self.folder / FILE) as path, h5py.File(path, "w", locking=False) as file:
            data = file.create_group("data")
            for each in done:
                name, (part, *_) = f"demo_{each.entry.position}", each.written.files
                if self.linked:
                    data[name] = h5py.ExternalLink(part, "demo")
                if self.linked and "env_args" in data.attrs:
                    continue
                with h5py.File(self.folder / part, "r", locking=False) as source:
                    data.attrs["env_args"] = source["demo"].attrs["env_args"]
                    if not self.linked:
                        source.copy("demo", data, name)
            data.attrs["total"] = sum(each.entry.steps for each in done)
            for split in self.splits:
                names = [f"demo_{each.entry.position}" for each in done if each.entry.split == split]
                file[f"mask/{split}"] = np.array(names, "S")
        return (FILE,)


def _env_args(episode: Episode) -> str:
    """What the producer said; else enough for robomimic to read the file, though not to make the environment. JSON."""
    found = episode.attributes.get("env_args")
    if not isinstance(found, dict) or not {"env_name", "type", "env_kwargs"} <= set(found):
        found = {"env_name": episode.spec.name, "type": _GYM, "env_kwargs": {}}
    return json.dumps(found, sort_keys=True)
