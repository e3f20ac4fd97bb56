"""Published weights as models that answer queries, in torch. The only module of the server that imports it.

A batch is filled up with empty items to 2, 4, 8, 16 or 32 and longer ones are cut, so that few shapes occur and each
can be warmed up. (A batch of one is computed as two: torch takes other kernels for one, which sum in another order.) No
layer mixes items and noise follows from a query's seed, so an answer does not depend on who shares the batch: on a CPU
to the last bit in what was measured, elsewhere after rounding.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from inference import goal_choice
from inference.warm_up import example_queries
from protocol.errors import ModelError
from protocol.namo.masks import View, draw
from protocol.namo.queries import ModelInfo, PushGoal, Query, RankedObject
from protocol.published import PublishedModel
from trainer.namo.architectures import ARCHITECTURES, Network
from trainer.namo.goal_model import GOAL_CHANNELS, GOAL_NUMBERS, GoalModel
from trainer.namo.object_model import OBJECT_CHANNELS, ObjectModel
from trainer.namo.places import Places, all_places, selected_places

BUCKETS = (2, 4, 8, 16, 32)
# Rows of the perceptrons are padded to multiples of this.
_ROWS = 32
_MOST_MOVABLES = (8, 16, 32, 64)

Item = TypeVar("Item")


def load_model(published: PublishedModel, device: str, threads: int = 1) -> ServedObjectModel | ServedGoalModel:
    """The model of verified weights on a device, `cpu` or `cuda`. Raises ModelError.

    threads: of torch for one computation. The server leaves it at one and runs several batches at once instead.
    """
    place = _device(device)
    torch.set_num_threads(threads)
    # Otherwise a GPU rounds the inputs of convolutions to 10 bits, and how that adds up depends on the batch's size.
    torch.backends.cudnn.allow_tf32 = False
    network = _network(published).to(place).eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's overloads
    manifest = published.manifest
    info = ModelInfo(name=manifest.name, kind=manifest.kind, version=manifest.version, parameters=manifest.parameters)
    if isinstance(network, ObjectModel):
        return ServedObjectModel(info, network, place)
    return ServedGoalModel(info, network, place)


def best_device() -> str:
    """`cuda` if torch can use one here, or else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class ServedObjectModel:
    """Ranks the movables that can be reached."""

    def __init__(self, info: ModelInfo, network: ObjectModel, device: torch.device) -> None:
        self.info = info
        self._network = network
        self._device = device
        self._masks = _Masks()

    @property
    def drawn_s(self) -> float:
        """Seconds that this thread has spent drawing masks for it."""
        return self._masks.drawn_s

    def rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        """For each query its reachable movables, best first, equal ones in the scene's order; scores to 1e-4.

        Raises ModelError.
        """
        return [answer for part in _parts(queries) for answer in self._rank(part)]

    def sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        """Raises ModelError: this is no goal model."""
        raise _wrong_kind(self.info, "goal", len(queries))

    def warm_up(self, max_batch: int) -> None:
        """Compute a batch of each size up to `max_batch`, so that no query waits for what happens only once."""
        for size in _sizes(max_batch):
            self.rank(example_queries(size))

    @torch.inference_mode()
    def _rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        views = [query.view() for query in queries]
        most = max(len(query.scene.movables) for query in queries)
        batch, most = _bucket(len(queries)), next(size for size in _MOST_MOVABLES if size >= most)
        masks = self._masks.draw(views, len(OBJECT_CHANNELS))
        inputs = _inputs(masks, all_places(views, batch, most), self._device)
        scores = self._network(*inputs).double().cpu().numpy()
        return [self._answer(query, row) for query, row in zip(queries, scores, strict=False)]

    def _answer(self, query: Query, scores: NDArray[np.float64]) -> tuple[RankedObject, ...]:
        may = set(query.reachable)
        names = [box.name for box in query.scene.movables]
        found = [(name, score) for name, score in zip(names, scores, strict=False) if name in may]
        if not found:
            return ()
        _check_finite(self.info, scores[: len(names)])
        numbers = np.array([score for _, score in found])
        shares = np.exp(numbers - numbers.max())
        shares = (shares / shares.sum()).round(goal_choice.SCORE_DIGITS)
        order = np.argsort(-shares, kind="stable")
        return tuple(RankedObject(found[place][0], float(shares[place])) for place in order)


class ServedGoalModel:
    """Samples push goals."""

    def __init__(self, info: ModelInfo, network: GoalModel, device: torch.device) -> None:
        self.info = info
        self._network = network
        self._device = device
        self._masks = _Masks()

    @property
    def drawn_s(self) -> float:
        """Seconds that this thread has spent drawing masks for it."""
        return self._masks.drawn_s

    def rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        """Raises ModelError: this is no object model."""
        raise _wrong_kind(self.info, "object", len(queries))

    def sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        """For each query and movable at most `query.goals` goals among `query.samples` samples, best first.

        Poses to 1 mm and 1 mrad, scores as in `goal_choice`. None at all if every sample lies outside of the bounds.
        Raises ModelError.
        """
        return [answer for part in _parts(queries) for answer in self._sample(part)]

    def warm_up(self, max_batch: int) -> None:
        """Compute a batch of each size up to `max_batch`, so that no query waits for what happens only once."""
        for size in _sizes(max_batch):
            self.sample([(query, query.reachable[0]) for query in example_queries(size)])

    @torch.inference_mode()
    def _sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        views = [self._view(query, name) for query, name in queries]
        places = selected_places(views, _bucket(len(views)))
        masks = self._masks.draw(views, len(GOAL_CHANNELS))
        context = self._network.encode(*_inputs(masks, places, self._device))
        counts = np.array([query.samples for query, _ in queries])
        rows = np.repeat(np.arange(len(queries)), counts)
        rows = np.pad(rows, (0, -len(rows) % _ROWS))
        noise = np.zeros((len(rows), GOAL_NUMBERS), np.float32)
        noise[: counts.sum()] = np.concatenate([_noise(query, name) for query, name in queries])
        own = context[torch.from_numpy(rows).to(self._device)]
        moves = self._network.sample(own, torch.from_numpy(noise).to(self._device)).cpu().numpy()[: counts.sum()]
        _check_finite(self.info, moves)
        return self._answers(queries, views, np.split(moves, counts.cumsum()[:-1]))

    def _view(self, query: Query, name: str) -> View:
        try:
            return query.view(name)
        except KeyError:
            names = ", ".join(box.name for box in query.scene.movables)
            raise ModelError(f"{self.info.name}: expected an object among {names}, found {name!r}") from None

    def _answers(
        self, queries: Sequence[tuple[Query, str]], views: Sequence[View], moves: Sequence[NDArray[np.float32]]
    ) -> list[tuple[PushGoal, ...]]:
        answers: list[tuple[PushGoal, ...]] = [()] * len(queries)
        alike: dict[int, list[int]] = {}
        for number, (query, _) in enumerate(queries):
            alike.setdefault(query.samples, []).append(number)
        for numbers in alike.values():
            start = np.stack([views[n].state.movables[views[n].selected or 0] for n in numbers])
            poses = goal_choice.rounded_poses(start, np.stack([moves[n] for n in numbers]))
            bounds = np.array([views[n].scene.bounds for n in numbers], np.float64)
            chosen, scores = goal_choice.choose(poses, bounds, max(queries[n][0].goals for n in numbers))
            for row, number in enumerate(numbers):
                query, name = queries[number]
                best = [place for place in chosen[row, : query.goals] if place >= 0]
                answers[number] = tuple(
                    PushGoal(name, float(x), float(y), float(yaw), float(score))
                    for (x, y, yaw), score in zip(poses[row, best], scores[row], strict=False)
                )
        return answers


def _network(published: PublishedModel) -> Network:
    """Built from the manifest, filled with the weights. Raises ModelError."""
    manifest, where = published.manifest, published.folder
    architecture = ARCHITECTURES.get(manifest.architecture)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"{where}: expected an architecture among {known}, found {manifest.architecture!r}; "
            "serve it with the Headrace that published it"
        )
    if architecture.kind != manifest.kind:
        raise ModelError(
            f"{where}: {manifest.architecture} is of kind {architecture.kind!r}, the manifest says {manifest.kind!r}; "
            "publish it again"
        )
    try:
        config = msgspec.convert(manifest.config, architecture.config)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"{where}: the config does not fit {manifest.architecture}: {error}; publish it again"
        ) from error
    try:
        weights = load(published.weights())
    except SafetensorError as error:
        raise ModelError(f"{where}: expected safetensors, found: {error}; publish it again") from error
    with torch.device("meta"):  # shapes only: memory is taken by the weights alone
        network = architecture.build(config)
    _check_weights(published, network, weights)
    network.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return network


def _check_weights(published: PublishedModel, network: Network, weights: dict[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ModelError(
                f"{published.folder}: {published.manifest.architecture} expects {name} of shape {expected.get(name)}, "
                f"found {found.get(name)}; publish weights of the same architecture and config"
            )
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{published.folder}: expected finite weights, found NaN or infinity in {name}; roll back")


def _device(device: str) -> torch.device:
    if device not in ("cpu", "cuda"):
        raise ModelError(f"expected device cpu or cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"expected a CUDA device, found none that torch {torch.__version__} can use; use --device cpu")
    return torch.device(device)


class _Masks(threading.local):
    """Draws, and keeps the time of each thread."""

    drawn_s = 0.0

    def draw(self, views: Sequence[View], channels: int) -> NDArray[np.bool_]:
        """The first channels of all masks."""
        began = time.perf_counter()
        masks = draw(views)[:, :channels]
        self.drawn_s += time.perf_counter() - began
        return masks


def _inputs(masks: NDArray[np.bool_], places: Places, device: torch.device) -> tuple[Tensor, ...]:
    """Masks (in the memory order that convolutions want), points and numbers, as many as `places` has room for."""
    padded = torch.empty(
        (len(places.points), *masks.shape[1:]), device=device, memory_format=torch.channels_last
    ).zero_()
    padded[: len(masks)] = torch.from_numpy(masks).to(device)
    return padded, torch.from_numpy(places.points).to(device), torch.from_numpy(places.numbers).to(device)


def _noise(query: Query, name: str) -> NDArray[np.float32]:
    """float32[samples, 4], a function of the query's seed and the movable's name; more samples only add rows."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.Philox(key=query.seed | key << 64))
    return generator.standard_normal((query.samples, GOAL_NUMBERS), np.float32)


def _check_finite(info: ModelInfo, values: NDArray[np.float32] | NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        raise ModelError(f"{info.name} {info.version}: the model gave NaN or infinity; roll back or publish it again")


def _wrong_kind(info: ModelInfo, wanted: str, queries: int) -> ModelError:
    return ModelError(
        f"{info.name} {info.version}: expected a model of kind {wanted!r} for {queries} queries, found {info.kind!r}"
    )


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), BUCKETS[-1]):
        yield items[begin : begin + BUCKETS[-1]]


def _bucket(count: int) -> int:
    return next(size for size in BUCKETS if size >= count)


def _sizes(max_batch: int) -> Iterator[int]:
    yield from (size for size in BUCKETS if size <= _bucket(min(max_batch, BUCKETS[-1])))
