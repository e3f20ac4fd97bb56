"""A running sink, what it has collected, and its page."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from producers.namo.stream import stream_spec
from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.jpeg import encode
from protocol.namo.picture import View, draw
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront
from tests.fakes import counting_spec, publish
from tests.processes import SinkProcess, wait_until

TOKEN = "correct horse battery staple"
HOSTILE = "<img src=x onerror=hacked=1>"
SPEC = counting_spec("tests/watched")
PLANS = "namo/tiny"
EPISODES = 12
STRANGE = 3


@dataclass
class Reply:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Client:
    """Asks a HOST:PORT, one connection a question; keeps cookies."""

    address: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Reply:
        """GET."""
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path, None, headers)

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """POST as JSON."""
        return self.ask(
            "POST", path, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> Reply:
        """Any request."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            connection.request(method, path, body, {**(cookies if self.cookies else {}), **(headers or {})})
            answer = connection.getresponse()
            reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        if "set-cookie" in reply.headers:
            name, _, rest = reply.headers["set-cookie"].partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return reply

    def frame(self, episode: Mapping[str, Any], camera: str, step: int) -> Reply:
        """A stored frame."""
        return self.get(f"/frames/{episode['uuid']}/{episode['stream']}/{episode['index']}/{camera}/{step}.jpg")


def token_file(folder: Path, text: str = TOKEN) -> Path:
    """A token as --http-token wants it."""
    path = folder / "token"
    path.write_text(text)
    path.chmod(0o600)
    return path


def collect(endpoint: str, count: int, between: Callable[[], None] = lambda: None) -> None:
    """Publish so many more episodes of SPEC, and see them committed."""
    config = PublisherConfig(name=HOSTILE)
    with Publisher(endpoint, SPEC, Goal(end=10_000), config) as publisher:
        for number, index in enumerate(publisher.leases(), 1):
            publish(publisher, index)
            wait_until(lambda number=number: publisher.committed >= number, "committed")  # type: ignore[misc]
            between()
            if number == count:
                break


def publish_plans(endpoint: str) -> None:
    """Searches of one push each: a box in a gap is pushed through it, and three that cannot be drawn."""
    walls = (Box("wall_0", -1, 0, 0, 1, 0.1), Box("wall_1", 2, 0, 0, 1, 0.1))
    box = Box("obstacle_0_movable", 0.5, 0, 0, 0.4, 0.2)
    scene = Scene("a gap", (-2, 3, -2, 2), (0.5, -1), (0.5, 1.5), walls, (box,))
    before = State.initial(scene)
    after = State(np.array([0.5, 0.5]), np.array([[2.0, 1.5, 0.0]]))
    picture = draw(View(scene, before, Wavefront(scene).reach(before)))
    attributes: dict[str, Any] = {
        "scene": json.loads(json.dumps(_plain(scene))),
        "record": {"solution_found": True, "nodes_expanded": 3, "search_time_ms": 12.0},
        "options": {"algorithm": "idfs", "object_strategy": HOSTILE, "goal_strategy": "random"},
        "stop_reason": "solved",
        "ml": {"versions": {"object": "000001-aaaa"}},
        "attempts": {"count": 0},
    }
    columns = {
        "object": np.int32(0), "target": after.movables[0], "achieved": after.movables[0],
        "observations/robot": before.robot, "observations/movables": before.movables,
        "next_observations/robot": after.robot, "next_observations/movables": after.movables,
        "code": np.uint8(1), "contacts": np.uint8(0), "touched": np.uint64(0), "goal_open": np.bool_(True),
        "primitive_count": np.int32(0), "primitives": np.full((16, 3), -1, np.int32),
        "primitive_motion": np.zeros((16, 3), np.float32),
    }  # fmt: skip
    huge = {**attributes["scene"], "bounds": (-1e4, 1e4, -1e4, 1e4)}
    variants = [attributes, {}, {**attributes, "scene": huge}, {**attributes, "record": 5}]
    with Publisher(endpoint, stream_spec(PLANS, 1), Goal(end=4), PublisherConfig(name="planner")) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                episode.step(columns, {"top_down": encode(np.asarray(picture))})
                episode.finish(True, variants[index], 1)


def _plain(scene: Scene) -> dict[str, Any]:
    boxes = {
        name: [{f: getattr(box, f) for f in box.__struct_fields__} for box in getattr(scene, name)]
        for name in ("walls", "movables")
    }
    return {**{f: getattr(scene, f) for f in scene.__struct_fields__}, **boxes}


@dataclass
class Watched:
    """A sink with a page, and the folder of its dataset."""

    data: Path
    flags: tuple[str, ...]
    sink: SinkProcess = field(init=False)

    def start(self) -> None:
        """Run it, at the address it had before."""
        again = {"http": self.sink.http} if hasattr(self, "sink") else {}
        self.sink = SinkProcess(self.data, *self.flags, **again).ready()

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{self.sink.http}/"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A sink that has collected EPISODES episodes of SPEC, and STRANGE + 1 searches."""
    root = tmp_path_factory.mktemp("page")
    made = Watched(root / "data", ("--http-token", str(token_file(root))))
    made.start()
    collect(made.sink.endpoint, EPISODES)
    publish_plans(made.sink.endpoint)
    yield made
    with made.sink:
        assert made.sink.terminate() == 0, made.sink.output


@pytest.fixture(scope="module")
def client(watched: Watched) -> Client:
    """Asks the page of that sink."""
    return Client(watched.sink.http)
