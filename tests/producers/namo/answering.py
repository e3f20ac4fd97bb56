"""Askers in the planner's process: they answer every query as a server would, well or badly."""

from __future__ import annotations

from collections.abc import Callable

from producers.query_client import NoAnswerError
from protocol.namo.queries import Answer, PushGoal, Query, RankedObject, Timing, check_query, decode_from_client, encode

NO_TIME = Timing(0.0, 0.0, 0.0, 1)


def answer(query: Query, objects: tuple[str, ...] = (), goals: tuple[PushGoal, ...] = ()) -> Answer:
    """To a query; the first object is the best."""
    ranked = tuple(RankedObject(name, 1.0 / (place + 1)) for place, name in enumerate(objects))
    versions = {model: "v1" for model in (query.object_model, query.goal_model) if model is not None}
    return Answer(id=query.id, objects=ranked, goals=goals, versions=versions, device="cpu", timing=NO_TIME)


class InProcess:
    """Asks a function. Every query is checked and sent through its wire form first, and kept."""

    def __init__(self, reply: Callable[[Query], Answer]) -> None:
        self._reply = reply
        self.queries: list[Query] = []

    def ask(self, query: Query) -> Answer:
        check_query(query)
        assert decode_from_client(encode(query)) == query
        self.queries.append(query)
        return self._reply(query)


def last_first(query: Query) -> Answer:
    """Ranks the objects from the last of the scene on, and wants every object pushed half a metre in x and in -x."""
    names = tuple(reversed(query.reachable))
    poses = dict(zip((box.name for box in query.scene.movables), query.poses, strict=True))
    wanted = names if query.object is None else (query.object,)
    goals = tuple(
        PushGoal(name, poses[name][0] + shift, poses[name][1], poses[name][2] + turn, 1.0)
        for name in wanted
        for shift, turn in ((0.5, 7.0), (-0.5, 0.0))
    )
    return answer(query, names if query.op != "sample_goals" else (), goals if query.op != "rank_objects" else ())


def nan_goals(query: Query) -> Answer:
    """Right but for a number that is none."""
    name = query.object or query.reachable[0]
    return answer(query, query.reachable, (PushGoal(name, float("nan"), 0.0, 0.0, 1.0),))


def unknown_object(query: Query) -> Answer:
    """About an object that is not in the scene."""
    return answer(query, ("obstacle_99_movable",), (PushGoal("obstacle_99_movable", 1.0, 1.0, 0.0, 1.0),))


def nothing(query: Query) -> Answer:
    """Neither objects nor goals."""
    return answer(query)


def refusing(code: str) -> Callable[[Query], Answer]:
    """No answer, as the client reports it."""

    def reply(query: Query) -> Answer:
        raise NoAnswerError(code, f"{query.op} was not answered")

    return reply
