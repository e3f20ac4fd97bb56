"""What a planner asks the inference server, and what it hears: one MessagePack map each, DEALER to ROUTER.

Every query has a number that its connection never uses again, and every answer carries it: an answer that comes after
its deadline is known as such and dropped. The reachable region travels as bits, because the planner has it already.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from protocol.errors import HeadraceError
from protocol.namo.masks import REACHED_BYTES, View
from protocol.namo.scene import MAX_MOVABLES, Metres, Name, Point, Scene, State

QUERY_PROTOCOL = 1
MAX_QUERY_BYTES = 256 << 10
MAX_SAMPLES = 1024
MAX_DEADLINE_S = 600.0
PRIORITIES = 4  # 0 goes first

Op = Literal["rank_objects", "sample_goals", "rank_and_sample"]
FailureCode = Literal[
    "busy", "expired", "bad_query", "unknown_model", "wrong_model", "model_failed", "draining", "protocol_version"
]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=2000)]
ModelName = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Pose = tuple[Metres, Metres, Metres]


class QueryError(HeadraceError):
    """A query, or an answer, that cannot be what it says it is."""


class QueryVersionError(QueryError):
    """A query of another version of this protocol."""


class _Message(msgspec.Struct, frozen=True, tag_field="type", kw_only=True, forbid_unknown_fields=True):
    id: Number


class Query(_Message, tag="query", frozen=True, kw_only=True):
    """A question about one state of one scene.

    poses: of the movables (x, y, yaw), in the scene's order. reachable: names of those that can be pushed from
    somewhere. reached: `protocol.namo.masks.reached_bits`. in_the_way: `protocol.namo.blocking_path.first_hits`.
    object: whose goals (`sample_goals`; other ops ignore it).
    object_model, goal_model: names on the server; needed as the op says. samples: drawn from the model. goals: the most
    that are wanted for each object. objects: for `rank_and_sample`, for how many of the best objects goals are wanted.
    deadline_s: from now, on the client's clock; the server drops the query when it is over. priority: 0 goes first.
    protocol: in every version, so that a server can tell a planner of any.
    """

    op: Op
    scene: Scene
    robot: Point
    poses: Annotated[tuple[Pose, ...], Meta(max_length=MAX_MOVABLES)]
    reachable: Annotated[tuple[Name, ...], Meta(max_length=MAX_MOVABLES)]
    reached: Annotated[bytes, Meta(min_length=REACHED_BYTES, max_length=REACHED_BYTES)]
    in_the_way: Annotated[tuple[Name, ...], Meta(max_length=MAX_MOVABLES)] = ()
    object: Name | None = None
    object_model: ModelName | None = None
    goal_model: ModelName | None = None
    samples: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] = 32
    goals: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] = 5
    objects: Annotated[int, Meta(ge=1, le=MAX_MOVABLES)] = 1
    seed: Number = 0
    deadline_s: Annotated[float, Meta(gt=0, le=MAX_DEADLINE_S)] = 1.0
    priority: Annotated[int, Meta(ge=0, lt=PRIORITIES)] = 1
    protocol: Annotated[int, Meta(ge=0, le=2**31 - 1)] = QUERY_PROTOCOL

    @property
    def state(self) -> State:
        """The state that is asked about."""
        return State(np.array(self.robot, np.float64), np.array(self.poses, np.float64).reshape(-1, 3))

    def view(self, name: str | None = None) -> View:
        """The picture for a model; name: of the selected movable."""
        in_the_way = tuple(map(self.scene.place, self.in_the_way))
        return View(self.scene, self.state, self.reached, None if name is None else self.scene.place(name), in_the_way)


class Info(_Message, tag="info", frozen=True, kw_only=True):
    """Which models are there?"""


class Cancel(_Message, tag="cancel", frozen=True, kw_only=True):
    """Nobody waits for the answer of this number any more. Not answered."""


class RankedObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """score: larger is better; those of one answer sum up to 1."""

    name: Name
    score: float


class PushGoal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a movable should go: world pose of its centre [m, rad]. score: larger is better."""

    object: Name
    x: float
    y: float
    yaw: float
    score: float


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds in the queue, drawing masks, in the model; and how many queries shared the batch."""

    queue_s: float
    draw_s: float
    model_s: float
    batch: int


class Answer(_Message, tag="answer", frozen=True, kw_only=True):
    """Best first. versions: of each model that took part, by its name."""

    objects: tuple[RankedObject, ...]
    goals: tuple[PushGoal, ...]
    versions: dict[str, str]
    device: Text
    timing: Timing


class Failed(_Message, tag="failed", frozen=True, kw_only=True):
    """No answer, and why. retry_after_s: when it may be worth asking again (`busy`)."""

    code: FailureCode
    why: Text
    retry_after_s: float = 0.0


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a server. kind: `object` or `goal`. parameters: how many."""

    name: ModelName
    kind: Literal["object", "goal"]
    version: Text
    parameters: int


class Infos(_Message, tag="infos", frozen=True, kw_only=True):
    """What the server has."""

    protocol: int
    device: Text
    models: tuple[ModelInfo, ...]


FromClient = Query | Info | Cancel
FromServer = Answer | Failed | Infos


class _Envelope(msgspec.Struct):
    id: Number


class _Version(msgspec.Struct):
    protocol: int = QUERY_PROTOCOL


_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(FromClient)
_from_server = msgspec.msgpack.Decoder(FromServer)
_envelope = msgspec.msgpack.Decoder(_Envelope)
_version = msgspec.msgpack.Decoder(_Version)


def encode(message: FromClient | FromServer) -> bytes:
    """As it goes over the wire."""
    return _encoder.encode(message)


def decode_from_client(data: bytes) -> FromClient:
    """Raises QueryError, and QueryVersionError also for what cannot be decoded, if it says its version."""
    if len(data) > MAX_QUERY_BYTES:
        raise QueryError(f"a query has at most {MAX_QUERY_BYTES} bytes, found {len(data)}")
    try:
        query: FromClient = _from_client.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        _check_version(_version_of(data))
        raise QueryError(f"not a query: {error}") from error
    _check_version(query.protocol if isinstance(query, Query) else QUERY_PROTOCOL)
    return query


def _version_of(data: bytes) -> int:
    try:
        return _version.decode(data).protocol
    except (msgspec.DecodeError, ValueError):
        return QUERY_PROTOCOL  # it says nothing of another


def _check_version(found: int) -> None:
    if found != QUERY_PROTOCOL:
        raise QueryVersionError(
            f"the server speaks version {QUERY_PROTOCOL} of queries, the planner {found}; install the same release"
        )


def decode_number(data: bytes) -> int | None:
    """The number of a message that cannot be read otherwise, so that it can be answered; None if it has none."""
    try:
        return _envelope.decode(data).id
    except (msgspec.DecodeError, ValueError):
        return None


def decode_from_server(data: bytes) -> FromServer:
    """Raises QueryError."""
    try:
        answer: FromServer = _from_server.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise QueryError(f"not an answer: {error}") from error
    return answer


def check_query(query: Query) -> None:
    """What the types cannot say. Raises QueryError."""
    names = {box.name for box in query.scene.movables}
    if len(query.poses) != len(query.scene.movables):
        raise QueryError(f"expected a pose for each of {len(query.scene.movables)} movables, found {len(query.poses)}")
    numbers = (*query.robot, *(value for pose in query.poses for value in pose), *_numbers(query.scene))
    if not all(map(math.isfinite, numbers)):
        raise QueryError("poses, sizes, bounds and goal must be finite, found NaN or infinity")
    if not set(query.in_the_way) <= names or len(set(query.in_the_way)) < len(query.in_the_way):
        raise QueryError(f"in_the_way names movables of the scene, each once, found {list(query.in_the_way)}")
    if not set(query.reachable) <= names:
        raise QueryError(f"reachable names movables of the scene, found also {sorted(set(query.reachable) - names)}")
    if query.op == "sample_goals":
        if query.object is None or query.object not in names:
            raise QueryError(f"sample_goals needs an object of the scene, found {query.object}")
    elif not query.reachable:
        raise QueryError(f"{query.op} needs at least one reachable object, found none")
    if query.object_model is None and query.op != "sample_goals":
        raise QueryError(f"{query.op} needs object_model, found none")
    if query.goal_model is None and query.op != "rank_objects":
        raise QueryError(f"{query.op} needs goal_model, found none")


def check_answer(query: Query, answer: Answer) -> None:
    """An answer that a planner may follow: known objects that were asked for, finite poses. Raises QueryError."""
    may_name = {str(query.object)} if query.op == "sample_goals" else set(query.reachable)
    named = {ranked.name for ranked in answer.objects} | {goal.object for goal in answer.goals}
    if not named <= may_name:
        raise QueryError(f"the answer names {sorted(named - may_name)}; expected some of {sorted(may_name)}")
    numbers = [ranked.score for ranked in answer.objects]
    numbers += [value for goal in answer.goals for value in (goal.x, goal.y, goal.yaw, goal.score)]
    if not all(map(math.isfinite, numbers)):
        raise QueryError("the answer has NaN or infinity where numbers were expected")
    if query.op != "sample_goals" and not answer.objects:
        raise QueryError(f"{query.op} was answered without objects")


def _numbers(scene: Scene) -> tuple[float, ...]:
    boxes = (x for b in (*scene.walls, *scene.movables) for x in (b.x, b.y, b.yaw, b.half_x, b.half_y, b.half_z))
    return (*scene.bounds, *scene.robot, *scene.goal, scene.robot_radius, scene.goal_tolerance, *boxes)
