"""Training examples as they are kept in memory: masks as bits, everything else as it goes into the models."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocol.namo.blocking_path import first_hits
from protocol.namo.edges import reachable_places
from protocol.namo.masks import MASK_PIXELS, View, draw, reached_bits
from protocol.namo.wavefront import Reach, Wavefront
from trainer.namo.goal_model import GOAL_CHANNELS
from trainer.namo.labels import Choice, HelpfulPush, choices, helpful_pushes
from trainer.namo.object_model import OBJECT_CHANNELS
from trainer.namo.places import all_places, selected_places
from trainer.namo.searches import Search, Source, in_validation

Floats = NDArray[np.float32]
Learn = Literal["beyond", "achieved", "target"]
# Of models that learned `achieved`, opened the goal: 53 % of the pushes to their goals as they were, and 62, 68, 72 %
# with 0.1, 0.2, 0.3 m more; 44 % after `target`, 31 % to random goals (48 unseen states, the right movable).
BEYOND_M = 0.3
# An evaluation goes over all of them; more would hardly tell more.
_MOST_VALIDATION = 4000
# A movable that only turned has no direction [m].
_NO_WAY_M = 0.02


@dataclass(frozen=True)
class Picture:
    """What a model sees of one state: masks packed to bits uint8[C · 512], points float32[K, …, 2], numbers [K, …]."""

    masks: NDArray[np.uint8]
    points: Floats
    numbers: Floats

    @property
    def bytes(self) -> int:
        """In memory, nearly."""
        return self.masks.nbytes + self.points.nbytes + self.numbers.nbytes


@dataclass(frozen=True)
class ObjectExample:
    """reachable: bool[K]; known: bool[K], helpful or useless; wanted: float32[K], sums to 1; away_m: float32[K] from
    the robot."""

    picture: Picture
    reachable: NDArray[np.bool_]
    known: NDArray[np.bool_]
    wanted: Floats
    away_m: Floats


@dataclass(frozen=True)
class GoalExample:
    """move: float32[3], displacement of the centre in the world's axes [m] and turn [rad]."""

    picture: Picture
    move: Floats


class AnyExample(Protocol):
    """Either kind."""

    @property
    def picture(self) -> Picture: ...


Example = TypeVar("Example", bound=AnyExample)


class ExampleStore(Generic[Example]):
    """The training and the validation part, each of bounded length: the oldest leave.

    added: so far, those that have left included. validation_changes: is another number when the validation part is.
    """

    def __init__(self, validation_share: float, most: int) -> None:
        """most: examples of both parts together."""
        self.share = validation_share
        room = min(max(int(most * validation_share), 1), _MOST_VALIDATION)
        self.validation: deque[Example] = deque(maxlen=room)
        self.training: deque[Example] = deque(maxlen=most - room)
        # Of which search each of them is.
        self._validation_of: deque[Source] = deque(maxlen=room)
        self._training_of: deque[Source] = deque(maxlen=most - room)
        self.added = self.validation_changes = 0

    def add(self, source: Source, environment: bytes, examples: Sequence[Example]) -> None:
        """All of one search go to the same part."""
        self.added += len(examples)
        if in_validation(environment, self.share):
            self.validation.extend(examples)
            self._validation_of.extend([source] * len(examples))
            self.validation_changes += len(examples)
        else:
            self.training.extend(examples)
            self._training_of.extend([source] * len(examples))

    def withdraw(self, sources: Collection[Source]) -> int:
        """Take the examples of these searches out; returns how many these were."""
        before = len(self.training), len(self.validation)
        for part, of in ((self.training, self._training_of), (self.validation, self._validation_of)):
            left = [(each, source) for each, source in zip(part, of, strict=True) if source not in sources]
            part.clear()
            of.clear()
            part.extend(example for example, _ in left)
            of.extend(source for _, source in left)
        from_validation = before[1] - len(self.validation)
        self.validation_changes += from_validation
        return before[0] - len(self.training) + from_validation


def object_examples(search: Search) -> list[ObjectExample]:
    """One for each state of which a search says what helped and what did not."""
    walls = Wavefront(search.scene)
    return [_object_example(choice, walls) for choice in choices(search)]


def goal_examples(search: Search, learn: Learn = "beyond") -> list[GoalExample]:
    """One for each push that helped."""
    walls = Wavefront(search.scene)
    return [_goal_example(push, walls, learn) for push in helpful_pushes(search)]


def aim(push: HelpfulPush, learn: Learn) -> tuple[float, float, float]:
    """The pose that a planner should ask for, to have this push again.

    target: what was asked for then; a random target, of which only the direction may have mattered. achieved: where the
    movable went. beyond: the same, but further in the direction of the way, if the push opened the goal: it ended at
    that moment, and a push towards that very place counts as done some centimetres before it.
    """
    if learn == "target":
        return push.target
    (x, y, yaw), (x0, y0) = push.achieved, push.state.movables[push.place, :2]
    way = float(np.hypot(x - x0, y - y0))
    if learn == "achieved" or not push.opened or way < _NO_WAY_M:
        return x, y, yaw
    longer = 1 + BEYOND_M / way
    return float(x0 + (x - x0) * longer), float(y0 + (y - y0) * longer), yaw


def unpack(pictures: Sequence[Picture]) -> NDArray[np.bool_]:
    """The masks of some examples, bool[B, C, 64, 64]."""
    bits = np.unpackbits(np.stack([picture.masks for picture in pictures]), axis=1)
    return bits.reshape(len(pictures), -1, MASK_PIXELS, MASK_PIXELS).astype(np.bool_)


def turn_of(start: float, end: float) -> float:
    """From one yaw to another, the shorter way [rad]."""
    return float((end - start + np.pi) % (2 * np.pi) - np.pi)


def _object_example(choice: Choice, walls: Wavefront) -> ObjectExample:
    reach = walls.reach(choice.state)
    view = View(choice.scene, choice.state, reached_bits(reach), in_the_way=_in_the_way(reach))
    movables = len(choice.scene.movables)
    places = all_places([view], 1, movables)
    reachable, known = np.zeros(movables, np.bool_), np.zeros(movables, np.bool_)
    known[[*choice.helpful, *choice.useless]] = True
    # States are rounded to 0.1 mm, and that may be what an edge point lacks: what was pushed could be reached.
    reachable[[*reachable_places(reach), *choice.helpful, *choice.useless]] = True
    wanted = np.zeros(movables, np.float32)
    wanted[list(choice.helpful)] = 1 / len(choice.helpful)
    away = np.hypot(*(choice.state.movables[:, :2] - choice.state.robot).T).astype(np.float32)
    picture = Picture(_packed(view, len(OBJECT_CHANNELS)), places.points[0], places.numbers[0])
    return ObjectExample(picture, reachable, known, wanted, away)


def _goal_example(push: HelpfulPush, walls: Wavefront, learn: Learn) -> GoalExample:
    reach = walls.reach(push.state)
    view = View(push.scene, push.state, reached_bits(reach), push.place, _in_the_way(reach))
    places = selected_places([view], 1)
    x, y, yaw = push.state.movables[push.place]
    to = aim(push, learn)
    move = np.array((to[0] - x, to[1] - y, turn_of(yaw, to[2])), np.float32)
    picture = Picture(_packed(view, len(GOAL_CHANNELS)), places.points[0], places.numbers[0])
    return GoalExample(picture, move)


def _in_the_way(reach: Reach) -> tuple[int, ...]:
    return tuple(map(reach.wavefront.scene.place, first_hits(reach)))


def _packed(view: View, channels: int) -> NDArray[np.uint8]:
    return np.packbits(draw([view])[0, :channels])
