"""Objects and goals from models on an inference server, through whoever can ask."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from producers.namo.goal_strategies import angle
from producers.namo.options import SearchOptions
from producers.namo.outcome import MlStats, SearchWorld, Target
from producers.namo.streams import ActionPath, SearchKey, number
from producers.query_client import NoAnswerError
from protocol.namo.blocking_path import first_hits
from protocol.namo.masks import reached_bits
from protocol.namo.queries import Answer, Query, QueryError, check_answer
from protocol.namo.scene import State

# A goal nearer than this to where the object lies is no push [m].
NO_PUSH_M = 0.05
# An answer that cannot be followed, and one without any goal that could be pushed to.
BAD_ANSWER, NO_GOAL = "bad_answer", "no_goal"


class Asker(Protocol):
    """Who answers queries; `producers.query_client.QueryClient` is one."""

    def ask(self, query: Query) -> Answer:
        """Raises NoAnswerError, in bounded time."""
        ...


@dataclass(frozen=True)
class Place:
    """Where the search is. reachable: the movables that can be pushed here, in the scene's order."""

    state: State
    path: ActionPath
    reachable: tuple[str, ...]


class ModelStrategies:
    """Remembers every answer, and every failure, by state: a state that is visited again is not asked about again.

    So an answer cannot change in the middle of a search, and idfs and tree_idfs hear the same. One query gets objects
    and goals where both come from models.
    """

    def __init__(
        self, world: SearchWorld, options: SearchOptions, key: SearchKey, ask: Asker, clock: Callable[[], float]
    ) -> None:
        self._world, self._options, self._key, self._ask, self._clock = world, options, key, ask, clock
        self._orders: dict[bytes, tuple[str, ...] | None] = {}
        self._goals: dict[tuple[bytes, str], list[Target] | None] = {}
        self._in_the_way: dict[bytes, tuple[str, ...]] = {}
        self.stats = MlStats()

    def order(self, place: Place) -> tuple[str, ...] | None:
        """The reachable objects, best first; those the model leaves out come last. None: there is no answer."""
        state = place.state.key
        if state not in self._orders:
            both = self._options.goal_strategy == "ml"
            answer = self._query(place, "rank_and_sample" if both else "rank_objects")
            ranked = () if answer is None else (best.name for best in answer.objects)
            self._orders[state] = None if answer is None else tuple(dict.fromkeys((*ranked, *place.reachable)))
            for name in place.reachable if both else ():
                self._keep_goals(place, name, answer)
        return self._orders[state]

    def goals(self, place: Place, name: str) -> list[Target] | None:
        """Goals for one object, best first. None: there is no answer, or none with a goal to push to."""
        if (place.state.key, name) not in self._goals:
            self._keep_goals(place, name, self._query(place, "sample_goals", name))
        return self._goals[place.state.key, name]

    def _keep_goals(self, place: Place, name: str, answer: Answer | None) -> None:
        self._goals[place.state.key, name] = None
        if answer is None:
            return
        x, y, _ = place.state.movables[self._world.scene.place(name)]
        x0, x1, y0, y1 = self._world.scene.bounds
        targets = [(goal.x, goal.y, angle(goal.yaw)) for goal in answer.goals if goal.object == name]
        within = [to for to in targets if x0 <= to[0] <= x1 and y0 <= to[1] <= y1]
        useful = [to for to in within if math.hypot(to[0] - x, to[1] - y) >= NO_PUSH_M]
        if not useful:
            self.stats.fall_back(NO_GOAL)
        self._goals[place.state.key, name] = useful[: self._options.max_goals_per_object] or None

    def _query(
        self, place: Place, op: Literal["rank_objects", "sample_goals", "rank_and_sample"], name: str | None = None
    ) -> Answer | None:
        options, state = self._options, place.state
        query = Query(
            id=0,  # the client numbers its queries itself
            op=op,
            scene=self._world.scene,
            robot=(float(state.robot[0]), float(state.robot[1])),
            poses=tuple((float(x), float(y), float(yaw)) for x, y, yaw in state.movables),
            reachable=place.reachable,
            reached=reached_bits(self._world.reach(state)),
            in_the_way=self._hits(state),
            object=name,
            object_model=None if op == "sample_goals" else options.ml_object_model,
            goal_model=None if op == "rank_objects" else options.ml_goal_model,
            samples=options.ml_samples,
            goals=options.max_goals_per_object,
            objects=max(1, len(place.reachable)),
            seed=number(self._key, "query", place.path, name or ""),
        )
        begin = self._clock()
        self.stats.calls += 1
        try:
            answer = self._ask.ask(query)
            check_answer(query, answer)
        except NoAnswerError as error:
            self.stats.fall_back(error.code)
            return None
        except QueryError:
            self.stats.fall_back(BAD_ANSWER)
            return None
        finally:
            self.stats.seconds += self._clock() - begin
        self.stats.answered += 1
        self.stats.versions.update(answer.versions)
        return answer

    def _hits(self, state: State) -> tuple[str, ...]:
        if state.key not in self._in_the_way:
            self._in_the_way[state.key] = first_hits(self._world.reach(state))
        return self._in_the_way[state.key]
