"""How a search is stored: names of columns, bits and codes that whoever writes and whoever reads must agree on.

One search is one episode, one executed push of its plan one step. M: movables that the stream has room for; a scene
with fewer is padded with NaN. Places number the movables in the scene's order.

    object                       int32          place of the movable that is pushed
    target, achieved             float64[3]     where it should go, where it went: x, y, yaw [m, rad]
    observations/robot           float64[2]     before the push, robot at rest [m]
    observations/movables        float64[M, 3]  poses before the push
    next_observations/…                         the same after it
    code                         uint8          why the push ended: place in PUSH_CODES
    contacts                     uint8          bits of CONTACTS
    touched                      uint64         bit k: the pushed movable touched movable k
    goal_open                    bool           after the push the robot can reach its goal
    primitive_count              int32          motion primitives of the push; the first P of them follow
    primitives                   int32[P, 3]    face, edge point and steps of each motion primitive; -1: none
    primitive_motion             float32[P, 3]  driven before it [m], box moved [m] and turned [rad]
    images/top_down              JPEG           the scene before the push, and what can be reached
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.errors import DatasetError
from protocol.namo.scene import Scene, State
from protocol.shard_view import EpisodeView

SCHEMA_VERSION = 1
CAMERA = "top_down"
# No plan of a stream is longer; a constant, so that searches of any depth fit the same stream.
MAX_PLAN_STEPS = 64
# Most motion primitives of one push that are stored; the others are counted in `primitive_count`.
MAX_PRIMITIVES = 16
CONTACTS = ("robot_wall", "robot_movable", "object_wall", "object_movable", "stuck")
PUSH_CODES = (
    "reached",
    "goal_open",
    "no_edge",
    "no_improve",
    "stuck",
    "robot_contact",
    "iterations",
    "no_path",
    "budget",
    "cancelled",
)
# Longer tables are stored compressed: an episode's attributes have 256 KiB for everything.
_PLAIN_BYTES = 64 << 10
_DIGITS = 4  # 0.1 mm, 0.1 mrad


class AttemptTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every push that a search tried, one row each, in the order of trying; poses are rounded to 0.1 mm and 0.1 mrad.

    parent: row of the push after which this one was tried, -1: the first state. depth: pushes before it. object: place.
    code, contacts, goal_open: as in the columns above. target, achieved: x, y, yaw. robot: where it stood afterwards.
    moved: [row, place, x, y, yaw] of every other movable that was moved. dropped: rows that there was no room for.
    """

    parent: list[int]
    depth: list[int]
    object: list[int]
    code: list[int]
    contacts: list[int]
    goal_open: list[bool]
    primitives: list[int]
    target: list[tuple[float, float, float]]
    achieved: list[tuple[float, float, float]]
    robot: list[tuple[float, float]]
    moved: list[tuple[int, int, float, float, float]]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.parent)

    def states(self, scene: Scene) -> tuple[list[State], list[State]]:
        """The state before and after each push."""
        first = State.initial(scene)
        others: dict[int, list[tuple[int, float, float, float]]] = {}
        for row, *rest in self.moved:
            others.setdefault(row, []).append(tuple(rest))  # type: ignore[arg-type]
        before: list[State] = []
        after: list[State] = []
        for row, parent in enumerate(self.parent):
            start = first if parent < 0 else after[parent]
            movables = start.movables.copy()
            movables[self.object[row]] = self.achieved[row]
            for place, *pose in others.get(row, []):
                movables[place] = pose
            before.append(start)
            after.append(State(np.array(self.robot[row], np.float64), movables))
        return before, after


def rounded(values: NDArray[np.float64] | tuple[float, ...]) -> tuple[float, ...]:
    """As poses are stored in an attempt table."""
    return tuple(round(float(value), _DIGITS) + 0.0 for value in values)


def pack_attempts(table: AttemptTable, room_bytes: int) -> dict[str, Any]:
    """The table as attributes: plain lists, or the same JSON in zlib and base64 if it is long.

    What even so has no room is cut off at the end, and counted. In 230 000 bytes fit more than 5000 rows.
    """
    plain = msgspec.json.encode(table)
    if len(plain) <= min(_PLAIN_BYTES, room_bytes):
        return {"count": len(table), "table": msgspec.to_builtins(table)}
    while len(packed := base64.b64encode(zlib.compress(plain, 9))) > room_bytes:
        table = _shorter(table, int(len(table) * 0.97 * room_bytes / len(packed)))
        plain = msgspec.json.encode(table)
    return {"count": len(table), "zlib": packed.decode()}


def attempts_of(attributes: Mapping[str, Any]) -> AttemptTable:
    """The table of an episode's attributes. Raises DatasetError."""
    stored = attributes.get("attempts", {})
    try:
        if "zlib" in stored:
            return msgspec.json.decode(zlib.decompress(base64.b64decode(stored["zlib"])), type=AttemptTable)
        return msgspec.convert(stored["table"], AttemptTable)
    except (KeyError, ValueError, zlib.error, msgspec.DecodeError) as error:
        raise DatasetError(f"the attributes have no table of attempts: {error}") from error


def scene_of(attributes: Mapping[str, Any]) -> Scene:
    """The scene of an episode. Raises DatasetError."""
    try:
        return msgspec.convert(attributes["scene"], Scene)
    except (KeyError, ValueError) as error:
        raise DatasetError(f"the attributes have no scene: {error}; is this an episode of `produce namo`?") from error


def state_before(episode: EpisodeView, scene: Scene, step: int) -> State:
    """The state before a push of the plan."""
    return _state(episode, scene, "observations", step)


def state_after(episode: EpisodeView, scene: Scene, step: int) -> State:
    """The state after a push of the plan."""
    return _state(episode, scene, "next_observations", step)


def _state(episode: EpisodeView, scene: Scene, which: str, step: int) -> State:
    movables = episode.column(f"{which}/movables")[step, : len(scene.movables)]
    return State(episode.column(f"{which}/robot")[step].astype(np.float64), movables.astype(np.float64))


def _shorter(table: AttemptTable, count: int) -> AttemptTable:
    fields = {
        name: getattr(table, name)[:count] for name in table.__struct_fields__ if name not in ("moved", "dropped")
    }
    moved = [row for row in table.moved if row[0] < count]
    return AttemptTable(**fields, moved=moved, dropped=table.dropped + len(table) - count)
