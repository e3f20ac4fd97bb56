"""Scenes, queries and models for tests of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.model import Model
from protocol.errors import ConfigurationError
from protocol.namo.masks import REACHED_BYTES, draw
from protocol.namo.queries import ModelInfo, PushGoal, Query, RankedObject
from protocol.namo.scene import Box, Scene

# What a query's seed tells the models of these tests to do.
RAISES, RETURNS_NAN, NAMES_A_STRANGER, RETURNS_TEXT, IS_SLOW, RETURNS_TOO_FEW = 1001, 1002, 1003, 1004, 1005, 1006


def scene(movables: int = 3) -> Scene:
    """A room with boxes in a row."""
    walls = (Box("wall_0", 0, -2, 0, 2, 0.1), Box("wall_1", 0, 2, 0, 2, 0.1))
    boxes = tuple(Box(f"obstacle_{n}_movable", -1.5 + 0.4 * n, 0, 0.1 * n, 0.1, 0.1) for n in range(movables))
    return Scene("room", (-2, 2, -2, 2), (-1, -1), (1, 1), walls, boxes)


def query(seed: int = 0, op: str = "rank_and_sample", movables: int = 3, **changes: Any) -> Query:
    """About `scene()`, with all of its boxes reachable."""
    room = scene(movables)
    settings: dict[str, Any] = {
        "id": 0,
        "scene": room,
        "robot": room.robot,
        "poses": tuple((box.x, box.y, box.yaw) for box in room.movables),
        "reachable": tuple(box.name for box in room.movables),
        "reached": bytes(REACHED_BYTES),
        "object": room.movables[0].name if op == "sample_goals" else None,
        "object_model": "objects",
        "goal_model": "goals",
        "seed": seed,
        "deadline_s": 30.0,
    }
    return Query(op=op, **{**settings, **changes})  # type: ignore[arg-type]


class SmallModel:
    """Answers from the masks and the seed alone, with numpy. One class is both kinds."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.warmed_up = 0
        self.drawn_s = 0.0
        self.batches: list[int] = []
        self.entered = threading.Event()  # by a slow query
        self.gate = threading.Event()  # lets it go

    def warm_up(self, max_batch: int) -> None:
        self.warmed_up = max_batch

    def rank(self, queries: Sequence[Query]) -> list[tuple[RankedObject, ...]]:
        self._misbehave([query.seed for query in queries])
        began = time.perf_counter()
        masks = draw([query.view() for query in queries])
        self.drawn_s += time.perf_counter() - began
        ranked = [self._ranked(query, mask) for query, mask in zip(queries, masks, strict=True)]
        return ranked[1:] if any(query.seed == RETURNS_TOO_FEW for query in queries) else ranked

    def sample(self, queries: Sequence[tuple[Query, str]]) -> list[tuple[PushGoal, ...]]:
        self._misbehave([query.seed for query, _ in queries])
        return [self._goals(query, name) for query, name in queries]

    def _misbehave(self, seeds: Sequence[int]) -> None:
        self.batches.append(len(seeds))
        if RAISES in seeds:
            raise ZeroDivisionError("told to")
        if IS_SLOW in seeds:
            self.entered.set()
            assert self.gate.wait(60), "the gate was never opened"

    def _ranked(self, query: Query, mask: Any) -> tuple[RankedObject, ...]:
        score = float(mask.mean()) + query.seed % 7
        names = sorted(query.reachable, key=lambda name: (hash_of(name, query.seed), name))
        if query.seed == RETURNS_NAN:
            score = float("nan")
        if query.seed == RETURNS_TEXT:
            return tuple(RankedObject(name, "much") for name in names)  # type: ignore[arg-type]
        if query.seed == NAMES_A_STRANGER:
            names = ["somebody"]
        return tuple(RankedObject(name, score / (place + 1)) for place, name in enumerate(names))

    def _goals(self, query: Query, name: str) -> tuple[PushGoal, ...]:
        rng = np.random.default_rng([query.seed, len(name)])
        return tuple(PushGoal(name, *map(float, rng.uniform(-1, 1, 4))) for _ in range(query.samples))


def hash_of(name: str, seed: int) -> int:
    """The same in every process."""
    return (sum(name.encode()) * 31 + seed * 17) % 101


class SmallSource:
    """Models by name and version, and what is wrong with them; to be changed while a server runs."""

    def __init__(self) -> None:
        self.versions = {"objects": "v1", "goals": "v1"}
        self.kinds: dict[str, str] = {"objects": "object", "goals": "goal"}
        self.broken: set[tuple[str, str]] = set()
        self.loaded: dict[tuple[str, str], SmallModel] = {}
        self.unreadable = False

    def names(self) -> list[str]:
        if self.unreadable:
            raise ConfigurationError("the folder is gone")
        return sorted(self.versions)

    def current(self, name: str) -> str:
        return self.versions[name]

    def load(self, name: str, version: str) -> Model:
        if (name, version) in self.broken:
            raise ConfigurationError(f"{name} {version}: expected a checkpoint, found half of one")
        info = ModelInfo(name, self.kinds[name], version, 1)  # type: ignore[arg-type]
        return self.loaded.setdefault((name, version), SmallModel(info))
