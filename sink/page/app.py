"""What the page answers: its own files, JSON below /api/, stored frames. What changes anything needs the token."""

from __future__ import annotations

import http.client
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from protocol.errors import ConfigurationError, DatasetError, HeadraceError
from sink.page import episode_data, marks
from sink.page.assets import Assets
from sink.page.board import Board, Watched
from sink.page.catalogue import Catalogue, UnknownEpisodeError
from sink.page.guard import Guard
from sink.page.headers import SafeHeaders
from sink.page.listing import listing
from sink.page.neighbours import fetch, trouble
from sink.page.parameters import BadParameterError, Filter, number, required_index, required_text
from sink.page.plan_panels import PlanPanels

_MOST_BODY = 16 << 10
# A committed frame never changes, and the address names the dataset.
_FOR_EVER = "private, max-age=31536000, immutable"
_Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """Everything that the answers are made of."""

    catalogue: Catalogue
    board: Board
    guard: Guard
    watched: Watched
    panels: PlanPanels
    assets: Assets

    def app(self) -> Starlette:
        """The ASGI application; its end closes the dataset."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            yield
            self.board.close()
            self.catalogue.close()

        frame = "/frames/{uuid}/{stream:path}/{index}/{camera}/{step}.jpg"
        plan = "/plans/{uuid}/{stream:path}/{index}/{when}-{push}.png"
        routes = [
            Route("/", self._index),
            Route("/static/{path:path}", self._static),
            Route("/api/login", self._login, methods=["POST"]),
            Route("/api/logout", self._logout, methods=["POST"]),
            Route("/api/flag", self._flag, methods=["POST"]),
            Route("/api/now", self._data(self._now)),
            Route("/api/episodes", self._data(self._episodes)),
            Route("/api/episode", self._data(self._episode)),
            Route("/api/column", self._data(self._column)),
            Route(frame, self._data(self._frame)),
            Route(plan, self._data(self._plan)),
            *(Route(path, self._sinks_own) for path in ("/metrics", "/healthz", "/status")),
        ]
        made = Starlette(routes=routes, lifespan=lifespan, max_body_size=_MOST_BODY)
        made.add_middleware(SafeHeaders, guard=self.guard)
        return made

    def _data(self, answer: Callable[[Request], Response]) -> _Handler:
        """An answer made of data: in a thread, for those who may look, and with its errors as JSON."""

        async def handle(request: Request) -> Response:
            if (turned_away := self._turned_away(request)) is not None:
                return turned_away
            try:
                return await anyio.to_thread.run_sync(answer, request)
            except HeadraceError as error:
                return problem(_status_of(error), str(error))
            except OSError as error:
                return problem(503, f"the dataset cannot be read now: {error}")

        return handle

    def _turned_away(self, request: Request) -> Response | None:
        """The answer for those who may not look at data; None for those who may."""
        if self.guard.may_look(request):
            return None
        if self.guard.read_only:
            return problem(403, "the page is shown on this machine only; with --http-token FILE also on others")
        return problem(401, "this page is shown to those who have its token")

    # --- files and the token ----------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        answer = self.assets.answer("index.html", request)
        assert answer is not None
        return answer

    async def _static(self, request: Request) -> Response:
        return self.assets.answer(request.path_params["path"], request) or problem(404, "there is no such file")

    async def _login(self, request: Request) -> Response:
        try:
            token = (await request.json())["token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str) or "application/json" not in request.headers.get("content-type", ""):
            return problem(400, 'expected {"token": "…"} as application/json')
        answer = Response(status_code=204)
        if not self.guard.log_in(token, answer):
            return problem(403, "that is not the token")
        return answer

    async def _logout(self, request: Request) -> Response:
        self.guard.log_out(request)
        return Response(status_code=204)

    async def _flag(self, request: Request) -> Response:
        if self.guard.read_only:
            return problem(403, "nothing can be changed here; start it with --http-token FILE")
        if not self.guard.may_write(request):
            return problem(401, "type in the token first")
        if "application/json" not in request.headers.get("content-type", ""):
            return problem(400, "expected application/json")
        body = await request.body()

        def say(_: Request) -> Response:
            marks.say(self.catalogue, body)
            return Response(status_code=204)

        return await self._data(say)(request)

    # --- data -------------------------------------------------------------------------------------------------

    def _now(self, request: Request) -> Response:
        rights = {"read_only": self.guard.read_only, "may_write": self.guard.may_write(request)}
        return as_json({**self.board.now(), **rights})

    def _episodes(self, request: Request) -> Response:
        return as_json(listing(self.catalogue, Filter.of(request.query_params)))

    def _episode(self, request: Request) -> Response:
        stream, index = required_text(request.query_params, "stream"), required_index(request.query_params)
        self.catalogue.refresh()
        episode = self.catalogue.episode(stream, index)
        found = episode_data.described(episode)
        with self.catalogue.lock:
            table = self.catalogue.table(stream)
            place = table.place(index)
            assert place is not None
            found["before"], found["after"] = table.neighbours(place)
            try:
                found["said"] = marks.described(self.catalogue.flags(stream), index)
            except DatasetError as error:
                found["said"] = {"trouble": str(error)}
        if found["plan"]:
            try:
                found["plan"] = self.panels.described(episode)
            except DatasetError as error:
                found["plan"] = {"trouble": str(error)}
        return as_json(found)

    def _column(self, request: Request) -> Response:
        query = request.query_params
        episode = self.catalogue.episode(required_text(query, "stream"), required_index(query))
        return as_json(episode_data.column(episode, required_text(query, "name")))

    def _frame(self, request: Request) -> Response:
        path = request.path_params
        episode = self.catalogue.episode(path["stream"], number(path["index"], "index"))
        _check_uuid(path["uuid"], episode.shard.layout.dataset_uuid)
        data = episode_data.frame(episode, path["camera"], number(path["step"], "step"))
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": _FOR_EVER})

    def _plan(self, request: Request) -> Response:
        path = request.path_params
        episode = self.catalogue.episode(path["stream"], number(path["index"], "index"))
        _check_uuid(path["uuid"], episode.shard.layout.dataset_uuid)
        if not episode_data.is_search(episode):
            raise UnknownEpisodeError(f"stream {path['stream']!r} holds no searches, so there are no plans")
        data = self.panels.panel(episode, path["when"], number(path["push"], "push"))
        return Response(data, media_type="image/png", headers={"Cache-Control": _FOR_EVER})

    async def _sinks_own(self, request: Request) -> Response:
        """What the sink serves itself may be asked for on a connection that has come here."""
        if (turned_away := self._turned_away(request)) is not None:
            return turned_away
        if self.watched.sink is None:
            return problem(404, "this page runs without a sink; start it with --sink-http HOST:PORT")
        try:
            answer = await anyio.to_thread.run_sync(fetch, self.watched.sink, request.url.path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return problem(502, f"the sink at {self.watched.sink} {trouble(error)}")
        return Response(answer.body, answer.status, media_type=answer.kind)


def as_json(value: Any) -> Response:
    """An answer that is never kept."""
    return Response(msgspec.json.encode(value), media_type="application/json", headers={"Cache-Control": "no-store"})


def problem(status: int, why: str) -> Response:
    """One sentence."""
    return Response(json.dumps({"error": why}), status, media_type="application/json")


def _status_of(error: HeadraceError) -> int:
    if isinstance(error, BadParameterError | ConfigurationError):
        return 400
    return 404 if isinstance(error, UnknownEpisodeError) else 503


def _check_uuid(asked: str, own: str) -> None:
    if asked != own:
        raise UnknownEpisodeError(f"this is dataset {own}, not {asked[:64]}")
