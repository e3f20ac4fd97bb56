"""`headrace export act`: the files of ACT (Zhao et al. 2023), and of ACT++ with --compress.

    episode_{i}.hdf5                        i from 0 without gaps
      attrs                                 sim; compress with --compress; ours: index, seed, success, steps
      action                                float32[T, A]
      observations/qpos, observations/qvel  float32[T, …]
      observations/images/CAMERA            uint8[T, H, W, 3] upright RGB; with --compress uint8[T, most bytes]
      compress_len                          float32[cameras, T], with --compress only

ACT++ encodes arrays in RGB order with OpenCV, which takes them for BGR, and decodes them so too. What OpenCV decodes as
RGB is a JPEG with red and blue exchanged, so --compress decodes, exchanges and encodes anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from sink.export.episode import Episode
from sink.export.flat_hdf5 import lay_out
from sink.export.plan import Done, Plan, Written
from sink.export.whole_file import whole_file

IMAGES = "observations/images/{}"


@dataclass(frozen=True)
class Act:
    """Write one HDF5 file for each episode, as ACT and ACT++ read them."""

    follows: ClassVar[bool] = True

    cameras: tuple[str, ...] = ()
    """These cameras, in this order; all if not given."""
    qpos: str = "observations/qpos"
    """The column that becomes observations/qpos."""
    qvel: str = "observations/qvel"
    """The column that becomes observations/qvel."""
    action: str = "action"
    """The column that becomes action."""
    sim: bool = True
    """What the attribute `sim` says. If it is false ACT's reader takes actions one step earlier."""
    equal_length: bool = False
    """Make all episodes as long as the longest, as the original ACT needs them: the last action, observation and frame
    are held."""
    length: int | None = None
    """The same with so many steps [steps]; with --follow the longest is not known."""
    compress: bool = False
    """JPEG instead of decoded frames, as ACT++ does it, with red and blue exchanged as its reader needs them."""
    jpeg_quality: int = 90
    """With --compress: quality of the new JPEGs, 1 to 100; ACT++ takes 50."""
    copy_jpeg: bool = False
    """With --compress: copy the stored JPEGs instead. No loss and much faster, but ACT++'s reader gets BGR."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream has no such columns or cameras, or an episode is too long."""
        chosen_cameras(plan, self.cameras)
        known = [column.name for column in plan.spec.columns]
        for flag, name in (("--qpos", self.qpos), ("--qvel", self.qvel), ("--action", self.action)):
            if name not in known:
                raise ConfigurationError(
                    f"stream {plan.spec.name!r} has no column {name!r}; name another with {flag}: {', '.join(known)}"
                )
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigurationError(f"--jpeg-quality {self.jpeg_quality}: expected 1 to 100")
        if self.copy_jpeg and not self.compress:
            raise ConfigurationError("--copy-jpeg belongs to --compress, which is missing")
        if plan.follow and self.equal_length and self.length is None:
            raise ConfigurationError("--equal-length with --follow: the longest is not known yet; give --length STEPS")
        if self.length is not None and plan.longest > self.length:
            raise ConfigurationError(
                f"--length {self.length}: an episode has {plan.longest} steps; give at least that, or leave the longer "
                f"ones out with --where 'steps <= {self.length}'"
            )

    def begin(self, plan: Plan, folder: Path) -> ActWriter:
        """Nothing is shared by the episodes."""
        length = self.length if self.length is not None else plan.longest if self.equal_length else None
        return ActWriter(self, folder, chosen_cameras(plan, self.cameras), length)


def chosen_cameras(plan: Plan, wanted: Sequence[str]) -> tuple[str, ...]:
    """The cameras to write. Raises ConfigurationError for one that is not there, or twice."""
    known = [camera.name for camera in plan.spec.cameras]
    unknown = [name for name in wanted if name not in known]
    if unknown or len(set(wanted)) != len(wanted):
        what = f"no camera {unknown[0]!r}" if unknown else "each camera once only"
        raise ConfigurationError(f"stream {plan.spec.name!r} has {what}; it has: {', '.join(known) or 'none'}")
    return tuple(wanted) or tuple(known)


@dataclass(frozen=True)
class ActWriter:
    """length: steps of every file; None for each its own."""

    flags: Act
    folder: Path
    cameras: tuple[str, ...]
    length: int | None

    def write(self, episode: Episode) -> Written:
        """One file. Raises CorruptionError, OSError."""
        name = f"episode_{episode.position}.hdf5"
        with whole_file(self.folder / name) as path:
            if self.flags.compress:
                self._write_compressed(episode, path)
            else:
                self._write_decoded(episode, path)
        return Written((name,), self._length(episode) * len(self.cameras))

    def finish(self, done: Sequence[Done]) -> None:
        """There is nothing but the episodes."""

    def _length(self, episode: Episode) -> int:
        return self.length or episode.steps

    def _write_decoded(self, episode: Episode, path: Path) -> None:
        length = self._length(episode)
        arrays = {}
        for name in self.cameras:
            camera = episode.camera(name)
            arrays[IMAGES.format(name)] = (length, camera.height, camera.width, 3)
        offsets = lay_out(path, arrays, lambda file: self._fill(episode, file))
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_frames(fd, episode, {name: offsets[IMAGES.format(name)] for name in self.cameras}, length)
        finally:
            os.close(fd)

    def _write_compressed(self, episode: Episode, path: Path) -> None:
        length = self._length(episode)
        encode = _copied if self.flags.copy_jpeg else self._exchanged
        with h5py.File(path, "w", locking=False) as file:
            self._fill(episode, file)
            file.attrs["compress"] = True
            sizes = np.zeros((len(self.cameras), length), np.float32)
            for number, name in enumerate(self.cameras):
                frames = [encode(episode, name, step) for step in range(episode.steps)]
                frames += [frames[-1]] * (length - episode.steps)
                sizes[number] = [len(frame) for frame in frames]
                most = max(map(len, frames))
                images = file.create_dataset(IMAGES.format(name), (length, most), "u1", chunks=(1, most))
                for step, frame in enumerate(frames):
                    images.id.write_direct_chunk((step, 0), frame.ljust(most, b"\0"))
            file["compress_len"] = sizes

    def _exchanged(self, episode: Episode, camera: str, step: int) -> bytes:
        """The frame as OpenCV would encode an RGB array that it takes for BGR."""
        image, quality = episode.image(camera, step), self.flags.jpeg_quality
        data: bytes = simplejpeg.encode_jpeg(image, quality=quality, colorspace="BGR", colorsubsampling="420")
        return data

    def _fill(self, episode: Episode, file: h5py.File) -> None:
        """All but the images."""
        file.attrs["sim"] = self.flags.sim
        file.attrs["index"] = episode.index
        file.attrs["seed"] = np.uint64(episode.seed)
        file.attrs["success"] = episode.success
        file.attrs["steps"] = episode.steps
        columns = {"observations/qpos": self.flags.qpos, "observations/qvel": self.flags.qvel}
        for name, column in {**columns, "action": self.flags.action}.items():
            file[name] = held(episode.floats(column), self._length(episode))


def held(rows: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """float32[length, n]: the last row again and again after the end."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])


def write_frames(fd: int, episode: Episode, offsets: dict[str, int], length: int, shift: int = 0) -> None:
    """Decode all frames to their places in a file; the last is held.

    offsets: camera → where uint8[length, H, W, 3] begins [bytes]. shift: the first so many frames are left out.
    """
    buffers = {
        name: np.empty((camera.height, camera.width, 3), np.uint8)
        for name in offsets
        for camera in [episode.camera(name)]
    }
    for step in range(length):
        for name, first in offsets.items():
            buffer = buffers[name]
            if step + shift < episode.steps or step == 0:
                episode.image(name, min(step + shift, episode.steps - 1), buffer)
            _pwrite(fd, buffer, first + step * buffer.nbytes)


def _pwrite(fd: int, data: NDArray[np.uint8], offset: int) -> None:
    view = data.data.cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _copied(episode: Episode, camera: str, step: int) -> bytes:
    return episode.jpeg(camera, step)
