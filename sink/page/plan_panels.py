"""The plan of a stored search, push by push: the scene with what can be reached before a push, and after it."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from protocol.errors import DatasetError
from protocol.namo.picture import View, draw
from protocol.namo.wavefront import Wavefront
from protocol.shard_view import EpisodeView
from sink.page.catalogue import UnknownEpisodeError
from sink.plan_picture import StoredPlan

PIXELS = 420
_KEPT_PLANS = 8
# The wavefront has 625 cells for each.
_MOST_M2 = 5000.0
# One drawing takes a tenth of a second of a core, which producers may need.
_drawing = threading.Lock()


@contextmanager
def _only_searches() -> Iterator[None]:
    """Whoever publishes may call anything a search: what does not fit together is said, and harms nothing."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise DatasetError(f"this is not a search of `headrace produce namo`: {error!r}") from error


class PlanPanels:
    """Draws them when they are asked for, one at a time; the browser keeps what it was given."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[str, str, int], StoredPlan] = OrderedDict()

    def panel(self, episode: EpisodeView, when: str, push_number: int) -> bytes:
        """A PNG: the state `before` a push, with the push, or `after` it. A plan of no pushes has the first `before`.

        Raises UnknownEpisodeError, DatasetError.
        """
        with _drawing:
            plan = self._plan(episode)
            state = push_number + (when == "after")
            if when not in ("before", "after") or push_number >= max(len(plan.pushes), 1) or state >= len(plan.states):
                raise UnknownEpisodeError(f"{when[:20]}-{push_number}: the plan has {len(plan.pushes)} pushes")
            push = plan.pushes[state] if when == "before" and plan.pushes else None
            with _only_searches():
                reach = Wavefront(plan.scene).reach(plan.states[state])
                view = View(plan.scene, plan.states[state], reach, push, traces=plan.traces, labels=True)
                out = io.BytesIO()
                draw(view, PIXELS, square=False).save(out, "PNG")
                return out.getvalue()

    def described(self, episode: EpisodeView) -> dict[str, Any]:
        """{title, solved, captions: three lines for each state}. Raises DatasetError."""
        with _drawing:
            plan = self._plan(episode)
        return {"title": plan.subtitle, "solved": plan.solved, "captions": [list(each) for each in plan.captions]}

    def _plan(self, episode: EpisodeView) -> StoredPlan:
        layout = episode.shard.layout
        key = (layout.dataset_uuid, layout.spec.name, episode.index)
        plan = self._plans.get(key)
        if plan is None:
            with _only_searches():
                plan = StoredPlan.of(episode)
            x0, x1, y0, y1 = plan.scene.bounds
            if (x1 - x0) * (y1 - y0) > _MOST_M2:
                raise DatasetError(f"the scene has {(x1 - x0) * (y1 - y0):.0f} m²; at most {_MOST_M2:.0f} are drawn")
            self._plans[key] = plan
            if len(self._plans) > _KEPT_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan
