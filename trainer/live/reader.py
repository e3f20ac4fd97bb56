"""From a request to a batch: `pread` at known offsets, JPEG decoded into the batch's own memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.errors import CorruptionError
from protocol.packing import needed
from protocol.shard_view import ShardView, packet_reader
from protocol.video import VideoDecoder
from trainer.live.buffers import BufferPool
from trainer.live.frames import decode_into, fit_into
from trainer.live.options import ImageType, OnCorrupt, Sample
from trainer.live.schema import Schema


class Batch(TypedDict):
    """B samples. K: chunk size; D, A: as in the schema.

    qpos float32[B, D]; images camera → uint8 or float32[B, 3, H, W], channels last in memory; action float32[B, K, A],
    zeros where is_pad bool[B, K]: beyond the end of the episode. index, step, source int64[B]: which sample this is,
    source being a number into `LiveDataset.sources`.
    """

    qpos: torch.Tensor
    images: dict[str, torch.Tensor]
    action: torch.Tensor
    is_pad: torch.Tensor
    index: torch.Tensor
    step: torch.Tensor
    source: torch.Tensor


@dataclass(frozen=True)
class ReadOrder:
    """What to read, without reference to anything that another process does not have. All arrays are [B].

    paths: of the shards; shard: number into paths; row: of the episode in the shard's table; first: row of its first
    step in the shard's datasets.
    """

    paths: tuple[Path, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    step: NDArray[np.int64]
    index: NDArray[np.int64]
    source: NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """A batch, and a sentence for each sample that was left out as corrupt."""

    batch: Batch
    corrupt: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReaderConfig:
    """batch_size: the largest that will be asked for."""

    sample: Sample
    schema: Schema
    batch_size: int
    on_corrupt: OnCorrupt
    pin_memory: bool


def pinned(batch: Batch) -> Batch:
    """A copy in page-locked memory."""
    images = {name: tensor.pin_memory() for name, tensor in batch["images"].items()}
    others = {name: tensor.pin_memory() for name, tensor in batch.items() if isinstance(tensor, torch.Tensor)}
    return {"images": images, **others}  # type: ignore[typeddict-item]  # a key each


class Reader:
    """Makes batches; may be used by several threads at once. open_shard: gives the open shard of a path."""

    def __init__(self, config: ReaderConfig, open_shard: Callable[[Path], ShardView]) -> None:
        self._config, self._open_shard = config, open_shard
        self._pool = BufferPool()
        self._video: VideoDecoder | None = None  # one for all shards, so that what it keeps has one bound
        self._sound: defaultdict[Path, set[int]] = defaultdict(set)  # rows whose columns were compared

    def read(self, order: ReadOrder) -> Read:
        """Raises CorruptionError."""
        arrays = _Arrays(self._config, self._pool, len(order.step))
        corrupt: dict[int, str] = {}
        # First all that is small; meanwhile the disk brings the frames.
        for act in (self._fill, self._decode):
            for place in range(len(order.step)):
                shard = self._open_shard(order.paths[order.shard[place]])
                try:
                    if place not in corrupt:
                        act(arrays, place, order, shard)
                except CorruptionError as error:
                    where = f"{shard.layout.path}: index {order.index[place]}, step {order.step[place]}"
                    corrupt[place] = f"{where}: {error}"
                    if self._config.on_corrupt == "stop":
                        raise CorruptionError(f"{corrupt[place]}; on_corrupt='skip' would leave it out") from error
        if corrupt and len(corrupt) == len(order.step):
            first = next(iter(corrupt.values()))
            raise CorruptionError(f"no sample of a batch can be used; run `headrace verify`. First: {first}")
        keep = [place for place in range(len(order.step)) if place not in corrupt] if corrupt else None
        return Read(arrays.batch(order, keep, self._config.sample.image_dtype), list(corrupt.values()))

    def _check_columns(self, shard: ShardView, row: int) -> None:
        """Once for each episode; frames are compared each time, for that is cheaper than to remember it."""
        sound = self._sound[shard.layout.path]
        if row not in sound:
            if row >= len(shard):
                shard.refresh()
            shard.episode(row).check_columns()
            sound.add(row)

    def _fill(self, arrays: _Arrays, place: int, order: ReadOrder, shard: ShardView) -> None:
        self._check_columns(shard, int(order.row[place]))
        sample = self._config.sample
        step, steps = int(order.step[place]), int(order.steps[place])
        row = int(order.first[place]) + step
        begin = 0
        for name in sample.states:
            values = shard.steps(f"steps/{name}", row, 1).reshape(-1)
            arrays.qpos[place, begin : begin + len(values)] = values
            begin += len(values)
        count = min(sample.chunk_size, steps - step)
        arrays.action[place, :count] = shard.steps(f"steps/{sample.action}", row, count).reshape(count, -1)
        arrays.is_pad[place, :count] = False
        for name in arrays.images:
            table, number = _packets(shard, name, row, step, steps)
            arrays.packets[place, name] = table, number
            for packet in table[list(needed(number, len(table)))]:
                shard.announce(int(packet["offset"]), int(packet["size"]))

    def _decode(self, arrays: _Arrays, place: int, order: ReadOrder, shard: ShardView) -> None:
        del order
        for name, images in arrays.images.items():
            table, number = arrays.packets[place, name]
            try:
                if shard.packing is not None:
                    fit_into(self._decode_packed(shard, name, table, number), images[place])
                    continue
                data = shard.blob(int(table["offset"][0]), int(table["size"][0]))
                decode_into(data, int(table["checksum"][0]), shard.cameras[name], images[place])
            except CorruptionError as error:
                raise CorruptionError(f"camera {name!r}: {error}") from error

    def _decode_packed(self, shard: ShardView, camera: str, table: NDArray[np.void], number: int) -> NDArray[np.uint8]:
        if self._video is None:
            self._video = VideoDecoder()
        key = (shard.layout.path, int(table["offset"][0]))
        return self._video.image(key, len(table), number, packet_reader(shard, table), shard.cameras[camera])


def _packets(shard: ShardView, camera: str, row: int, step: int, steps: int) -> tuple[NDArray[np.void], int]:
    """Where the frame of a step lies: FRAME[n] of its group, which is one JPEG without packing; and its number there.

    row: of the step in the shard's datasets; step, steps: in and of its episode.
    """
    first, count = (step, 1) if shard.packing is None else shard.packing.group(step, steps)
    return shard.steps(f"steps/images/{camera}", row - step + first, count), step - first


class _Arrays:
    """The memory of one batch, filled sample by sample through numpy."""

    def __init__(self, config: ReaderConfig, pool: BufferPool, count: int) -> None:
        schema, chunk = config.schema, config.sample.chunk_size
        self._pin = config.pin_memory and torch.cuda.is_available()
        self._tensors: dict[str, torch.Tensor] = {
            "qpos": self._empty((count, schema.state_dim), torch.float32),
            "action": self._empty((count, chunk, schema.action_dim), torch.float32).zero_(),
            "is_pad": self._empty((count, chunk), torch.bool).fill_(True),
        }
        sizes = {name: (count, *size, 3) for name, size in schema.cameras.items()}
        self._images = {
            name: self._empty(size, torch.uint8) if self._pin else pool.tensor(size, config.batch_size)
            for name, size in sizes.items()
        }
        self.qpos, self.action, self.is_pad = (tensor.numpy() for tensor in self._tensors.values())
        self.packets: dict[tuple[int, str], tuple[NDArray[np.void], int]] = {}  # (place, camera) → `_packets`
        self.images: dict[str, NDArray[np.uint8]] = {name: images.numpy() for name, images in self._images.items()}

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=self._pin)

    def batch(self, order: ReadOrder, keep: Sequence[int] | None, image_dtype: ImageType) -> Batch:
        """The batch of all samples, or of those to keep."""
        numbers = {name: torch.from_numpy(getattr(order, name)) for name in ("index", "step", "source")}
        tensors: dict[str, Any] = {**self._tensors, **numbers}
        images = self._images
        if keep is not None:
            tensors = {name: tensor[keep] for name, tensor in tensors.items()}
            images = {name: tensor[keep] for name, tensor in images.items()}
        upright = {name: tensor.permute(0, 3, 1, 2) for name, tensor in images.items()}
        if image_dtype == "float32":
            floats = {name: tensor.to(torch.float32).div_(255) for name, tensor in upright.items()}
            upright = {name: tensor.pin_memory() for name, tensor in floats.items()} if self._pin else floats
        batch: Batch = {"images": upright, **tensors}  # type: ignore[typeddict-item]  # a key each
        return batch
