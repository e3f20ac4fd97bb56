"""What the page answers, asked without a browser: data, limits, and what it refuses."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.main import main as headrace
from protocol.messages import Outcome
from tests.datasets import Recorded, write_dataset
from tests.fakes import VOID, counted_episode
from tests.page.conftest import EPISODES, HOSTILE, PLANS, SPEC, STRANGE, TOKEN, Client, Watched, token_file
from tests.processes import Process, SinkProcess, wait_until

KEPT = [index for index in range(EPISODES) if counted_episode(SPEC, index).outcome != VOID]


# --- data -----------------------------------------------------------------------------------------------------------


def test_what_goes_on_now(client: Client) -> None:
    now = client.get("/api/now").json()
    streams = {stream["name"]: stream for stream in now["streams"]}
    stream = streams[SPEC.name]
    assert stream["episodes"] == EPISODES
    good = sum(counted_episode(SPEC, index).outcome == Outcome.SUCCESS for index in range(EPISODES))
    assert stream["outcomes"]["success"] == good
    assert stream["success"]["last"]["rate"] == stream["success"]["all"]["rate"] == good / EPISODES
    assert sum(stream["history"]) == EPISODES
    assert stream["newest"]["index"] == KEPT[-1]
    assert streams[PLANS]["episodes"] == 1 + STRANGE
    assert now["sink"]["problems"] == []
    assert now["disk_free_bytes"] > 0


def test_frames_are_the_stored_bytes_and_never_change(client: Client) -> None:
    found = client.get("/api/episode", stream=SPEC.name, index=KEPT[3]).json()
    made = counted_episode(SPEC, KEPT[3])
    for camera, frames in made.frames.items():
        for step, stored in enumerate(frames):
            reply = client.frame(found, camera, step)
            assert (reply.status, reply.body) == (200, stored)
            assert "immutable" in reply.headers["cache-control"]
    assert client.frame(found, "camera0", found["steps"]).status == 404
    assert client.frame(found, "camera9", 0).status == 404
    other = {**found, "uuid": "0" * 36}
    assert client.frame(other, "camera0", 0).status == 404, "another dataset once had this address"


def test_columns_are_the_stored_numbers(client: Client) -> None:
    index = next(i for i in KEPT if counted_episode(SPEC, i).steps > 3)
    made = counted_episode(SPEC, index)
    for name, values in made.columns.items():
        found = client.get("/api/column", stream=SPEC.name, index=index, name=name).json()
        lines = values.reshape(made.steps, -1).astype(float).T.tolist()
        assert found["lines"] == [[None if math.isnan(value) else value for value in line] for line in lines], name
        assert found["steps"] == list(range(made.steps))


def test_episodes_are_filtered_and_listed_in_pages(client: Client) -> None:
    def indices(**query: Any) -> list[int]:
        found = client.get("/api/episodes", stream=SPEC.name, **query).json()
        return [episode["index"] for episode in found["episodes"]]

    assert indices() == list(range(EPISODES))[::-1]
    assert indices(outcome="void") == [i for i in range(EPISODES) if i not in KEPT][::-1]
    assert indices(first=3, last=5) == [5, 4, 3]
    assert indices(skip=2, count=3) == [9, 8, 7]
    assert indices(version="no such") == []
    everywhere = client.get("/api/episodes", count=1000).json()
    assert everywhere["total"] == EPISODES + 1 + STRANGE
    assert everywhere["choices"]["streams"] == sorted([PLANS, SPEC.name])
    planned = client.get("/api/episodes", version="object 000001-aaaa").json()
    assert {episode["stream"] for episode in planned["episodes"]} == {PLANS}


def test_a_plan_is_drawn_before_and_after_each_push(client: Client) -> None:
    found = client.get("/api/episode", stream=PLANS, index=0).json()
    assert found["plan"]["solved"]
    assert len(found["plan"]["captions"]) == 2
    base = f"/plans/{found['uuid']}/{PLANS}/0"
    before, after = (client.get(f"{base}/{when}-0.png") for when in ("before", "after"))
    assert before.body[:4] == after.body[:4] == b"\x89PNG"
    assert before.body != after.body
    assert client.get(f"{base}/after-1.png").status == 404
    assert client.get(f"{base}/during-0.png").status == 404


@pytest.mark.parametrize(("index", "why"), [(1, "no scene"), (2, "400000000 m²; at most 5000"), (3, "not a search")])
def test_what_only_looks_like_a_search_is_not_drawn(client: Client, index: int, why: str) -> None:
    found = client.get("/api/episode", stream=PLANS, index=index).json()
    assert why in found["plan"]["trouble"]
    reply = client.get(f"/plans/{found['uuid']}/{PLANS}/{index}/before-0.png")
    assert (reply.status, reply.json()["error"]) == (503, found["plan"]["trouble"])


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/api/episodes?outcome=good", 400, "expected one of success, failure, void"),
        ("/api/episodes?first=-1", 400, "expected a whole number"),
        ("/api/episodes?first=99999999999999999999999", 400, "expected a whole number"),
        ("/api/episodes?mark=x", 400, "expected one of any"),
        (f"/api/episodes?stream={'x' * 400}", 400, "at most 300 characters"),
        ("/api/episode?index=1", 400, "stream is missing"),
        ("/api/episode?stream=a&index=%C2%B2", 400, "expected a whole number"),
        ("/api/episode?stream=no/such&index=1", 404, "there is no stream 'no/such'; there is: namo/tiny"),
        (f"/api/episode?stream={SPEC.name}&index=9999", 404, "no episode with index 9999"),
        (f"/api/column?stream={SPEC.name}&index=0&name=x", 404, "there is no column 'x'; there is: action"),
        ("/static/../app.py", 404, "no such file"),
        ("/static/nothing.js", 404, "no such file"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(client: Client, path: str, status: int, why: str) -> None:
    reply = client.get(path)
    assert reply.status == status
    assert why in reply.json()["error"]


# --- who may do what ------------------------------------------------------------------------------------------------


def test_no_script_but_ours_and_no_other_site(client: Client) -> None:
    for path in ("/", "/static/main.js", "/api/now", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert client.get("/api/now", headers={"Host": "evil.example:9464"}).status == 421
    assert client.get("/api/now", headers={"Host": f"localhost:{client.address.rpartition(':')[2]}"}).status == 200
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/login", {"token": TOKEN}, cross).status == 403
    assert client.post("/api/login", {"token": "x" * 20_000}).status == 413


def test_flags_need_the_token_and_a_reason_and_can_be_taken_back(client: Client) -> None:
    stranger, friend = Client(client.address), Client(client.address)
    said = {"stream": SPEC.name, "index": KEPT[1], "what": "discard", "reason": HOSTILE}
    assert stranger.post("/api/flag", said).status == 401
    assert stranger.post("/api/login", {"token": "wrong"}).status == 403
    assert stranger.post("/api/login", ["token"]).status == 400
    assert stranger.post("/api/login", {"token": "\ud800"}).status == 403
    assert stranger.post("/api/flag", said).status == 401
    assert friend.post("/api/login", {"token": TOKEN}).status == 204
    assert friend.post("/api/flag", {**said, "reason": ""}).json()["error"].startswith("expected a reason")
    assert friend.post("/api/flag", {**said, "index": 9999}).status == 404
    assert friend.post("/api/flag", {**said, "what": "delete"}).status == 400
    plain = {"Content-Type": "text/plain"}
    assert friend.post("/api/flag", said, plain).status == 400, "a form of another site cannot say JSON"
    assert friend.post("/api/flag", said).status == 204

    def listed(mark: str) -> list[int]:
        found = stranger.get("/api/episodes", stream=SPEC.name, mark=mark).json()
        return [episode["index"] for episode in found["episodes"]]

    assert listed("discarded") == [KEPT[1]]
    assert KEPT[1] not in listed("kept")
    now = stranger.get("/api/episode", stream=SPEC.name, index=KEPT[1]).json()["said"]
    assert now["discarded"]["reason"] == HOSTILE
    assert friend.post("/api/flag", {**said, "what": "keep"}).status == 204
    assert listed("discarded") == []
    history = stranger.get("/api/episode", stream=SPEC.name, index=KEPT[1]).json()["said"]["history"]
    assert [word["what"] for word in history] == ["keep", "discard"]
    assert friend.post("/api/logout", {}).status == 204
    assert friend.post("/api/flag", said).status == 401


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", [Recorded(index) for index in range(3)])
    return tmp_path / "data"


class PageProcess(Process):
    """`headrace page`."""

    def __init__(self, data: Path, *flags: str, http: str = "127.0.0.1:0") -> None:
        super().__init__("-m", "sink.page", "--data", data, "--http", http, *flags)

    def client(self) -> Client:
        """When it is ready."""
        return Client(f"127.0.0.1:{self.says(r'READY: http://[^/]*:([0-9]+)/')[1]}")


def test_a_page_of_its_own_shows_a_dataset_at_rest_and_ends_quietly(dataset: Path) -> None:
    with PageProcess(dataset, "--sink-http", "127.0.0.1:1") as page:
        client = page.client()
        now = client.get("/api/now").json()
        assert now["sink"]["trouble"].startswith("does not answer")
        assert now["streams"][0]["episodes"] == 3
        assert now["read_only"] is True
        assert client.post("/api/login", {"token": "x"}).status == 403
        said = {"stream": "test/count", "index": 0, "what": "flag", "reason": "odd"}
        assert "--http-token" in client.post("/api/flag", said).json()["error"]
        assert client.get("/status").status == 502
        write_dataset(dataset, [Recorded(index) for index in range(3, 5)])
        wait_until(lambda: client.get("/api/now").json()["streams"][0]["episodes"] == 5, "it grows")
        _damage_is_said(client, dataset)
        with socket.create_connection(("127.0.0.1", int(client.address.rpartition(":")[2]))) as idle:
            idle.sendall(b"GET /api/now HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(9) == b"HTTP/1.1 "
            page.child.send_signal(signal.SIGINT)
            assert page.wait() == 0
        assert len(page.lines) == 1, page.output


def _damage_is_said(client: Client, dataset: Path) -> None:
    found = client.get("/api/episode", stream="test/count", index=1).json()
    good = client.frame(found, "front", 2)
    shard = dataset / "test/count/000000.h5"
    data = shard.read_bytes()
    place = data.index(good.body) + len(good.body) // 2
    with shard.open("r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 0xFF]))
    reply = client.frame(found, "front", 2)
    assert reply.status == 503
    assert "differs from its checksum" in reply.json()["error"]
    assert client.frame(found, "front", 1).status == 200
    dataset.rename(dataset.with_name("moved"))
    wait_until(lambda: client.get("/api/now").status == 503, "it is gone")
    dataset.with_name("moved").rename(dataset)
    wait_until(lambda: client.get("/api/now").status == 200, "it is back")


def test_elsewhere_than_on_loopback_the_token_is_needed_to_look(dataset: Path, tmp_path: Path) -> None:
    with PageProcess(dataset, "--http-token", str(token_file(tmp_path)), http="0.0.0.0:0") as page:
        client = page.client()
        named = {"Host": "robots.example"}
        assert client.get("/", headers=named).status == 200, "the page asks for the token"
        for path in ("/api/now", "/api/episodes", "/metrics", "/status"):
            assert client.get(path, headers=named).status == 401, path
        uuid = "0" * 36
        assert client.frame({"uuid": uuid, "stream": "test/count", "index": 0}, "front", 0).status == 401
        assert client.post("/api/login", {"token": TOKEN}).status == 204
        assert client.get("/api/now", headers=named).json()["may_write"] is True


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--data", "{empty}"], "is no dataset: it has no dataset.json and no shards"),
        (["--data", "{empty}/nothing"], "is no dataset: there is no such directory"),
        (["--data", "{data}", "--http", "nonsense"], "expected tcp://HOST:PORT"),
        (["--data", "{data}", "--http", "{taken}"], "Address already in use; choose another --http"),
        (["--data", "{data}", "--http", "0.0.0.0:0"], "can be reached from other machines"),
        (["--data", "{data}", "--http-token", "{short}"], "expected at least 16 characters, found 5"),
        (["--data", "{data}", "--http-token", "{open}"], "others can read it; say `chmod 600"),
        (["--data", "{data}", "--http-token", "{empty}/none"], "cannot be read"),
        (["--data", "{data}", "--sink-http", "here"], "expected HOST:PORT"),
    ],
)
def test_bad_flags_are_one_sentence(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], why: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "data": dataset, "short": token_file(tmp_path, "short")}
    places["open"] = tmp_path / "open"
    places["open"].write_text(TOKEN)
    places["open"].chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert headrace(["page", *(flag.format(taken=address, **places) for flag in flags)]) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


# --- beside a sink --------------------------------------------------------------------------------------------------


def page_pid(sink: int) -> int | None:
    """The child of a sink that serves its page."""
    found = subprocess.run(["pgrep", "-P", str(sink), "-f", "sink.page.handed_on"], capture_output=True, text=True)
    return int(found.stdout.split()[0]) if found.stdout else None


def test_metrics_outlive_the_page_and_the_page_comes_back(client: Client, watched: Watched) -> None:
    assert client.get("/").status == 200
    pid = page_pid(watched.sink.child.pid)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert b"headrace_sink_episodes_total" in client.get("/metrics").body
    assert client.get("/healthz").body == b"ok\n"

    def again() -> bool:
        try:
            reply = client.get("/")
        except (ConnectionError, OSError):  # it was handed to one that was dying
            return False
        assert reply.status in (200, 503), reply
        assert reply.status == 200 or b"ended" in reply.body
        return reply.status == 200

    wait_until(again, "a new one was started")
    assert page_pid(watched.sink.child.pid) not in (None, pid)


def test_the_sinks_own_pages_on_a_connection_that_was_handed_on(client: Client) -> None:
    host, _, port = client.address.partition(":")
    with socket.create_connection((host, int(port)), 20) as stream:
        for path, wanted in (("/static/main.js", b"import"), ("/healthz", b"ok"), ("/metrics", b"headrace_sink_")):
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {client.address}\r\n\r\n".encode())
            answer = b""
            while wanted not in answer.partition(b"\r\n\r\n")[2]:
                piece = stream.recv(1 << 16)
                assert piece, answer
                answer += piece
            length = int(answer.lower().partition(b"content-length: ")[2].split()[0])
            while len(answer.partition(b"\r\n\r\n")[2]) < length:
                answer += stream.recv(1 << 16)


def test_a_killed_sink_takes_its_page_along(tmp_path: Path) -> None:

    with SinkProcess(tmp_path / "data").ready() as sink:
        assert Client(sink.http).get("/").status == 200
        pid = page_pid(sink.child.pid)
        assert pid is not None
        sink.kill()
        wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not _alive(pid), "the page has ended")


def _alive(pid: int) -> bool:
    return "handed_on" in Path(f"/proc/{pid}/cmdline").read_text()
