"""Parts of the page without a server: rates, logs of trainings, bounds of connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.server import ServerConfig
from protocol.endpoint import parse_address
from protocol.messages import Outcome
from sink.page import connections, rates
from sink.page.board import Watched
from sink.page.catalogue import Catalogue
from sink.page.guard import Guard
from sink.page.neighbours import InferenceWatch
from sink.page.server import listen, make_page, server_of
from sink.page.stream_table import MOST_NAMES, OTHERS, Names, StreamTable
from sink.page.training_log import TrainingLog
from tests.datasets import SPEC, Recorded, write_dataset
from tests.inference.conftest import RawClient
from tests.inference.conftest import running as running_server
from tests.inference.scenes import SmallSource, query

SECOND = 10**9


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    outcomes = [Outcome.SUCCESS, Outcome.FAILURE, Outcome.VOID, Outcome.SUCCESS]
    write_dataset(tmp_path, [Recorded(index, outcome=outcome) for index, outcome in enumerate(outcomes)])
    made = Catalogue(tmp_path)
    made.refresh()
    yield made
    made.close()


@pytest.fixture
def table(catalogue: Catalogue) -> StreamTable:
    """Four episodes, committed 20 s apart."""
    made = catalogue.table(SPEC.name)
    first = int(made.entries["committed_ns"][0])
    made.entries["committed_ns"] = [first + 20 * number * SECOND for number in range(4)]
    return made


def test_rates_are_those_of_the_last_minutes(table: StreamTable) -> None:
    first = int(table.entries["committed_ns"][0])
    found = rates.rates(table, first + 100 * SECOND)
    assert found.episodes_per_hour == pytest.approx(2 * 36), "void records are no episodes; the first only begins"
    assert found.successes_per_hour == pytest.approx(36)
    assert found.frames_per_s == pytest.approx(2 * 6 * 2 / 100)
    later = first + int((rates.WINDOW_S + 61) * SECOND)
    assert rates.rates(table, later) == rates.Rates()
    assert sum(rates.history(table, first + 100 * SECOND)) == 4
    assert sum(rates.history(table, first + 7200 * SECOND)) == 0


def test_the_end_is_estimated_by_what_counts_for_the_goal(table: StreamTable) -> None:
    found = rates.rates(table, int(table.entries["committed_ns"][0]) + 100 * SECOND)
    assert rates.seconds_left(table, None, found) is None
    assert rates.seconds_left(table, {"of": "successes", "count": 12}, found) == pytest.approx(1000)
    assert rates.seconds_left(table, {"of": "episodes", "count": 12}, found) == pytest.approx(400)
    assert rates.seconds_left(table, {"of": "successes", "count": 2}, found) == 0
    assert rates.seconds_left(table, {"of": "successes", "count": 3}, rates.Rates()) is None


def test_an_inference_server_is_watched() -> None:
    config = ServerConfig(bind="tcp://127.0.0.1:0", http="127.0.0.1:0")
    with running_server(SmallSource(), config) as server, RawClient(server.endpoint) as client:
        assert server.http_address is not None
        watch = InferenceWatch(server.http_address)
        assert watch.look()["queries_per_s"] is None, "the first look says nothing of a rate"
        for number in range(3):
            client.ask(query(id=number))
        found = watch.look()
        assert found["outcomes"] == {"answered": 3}
        assert found["queries_per_s"] > 0
        assert found["models"]["objects"] == "v1"
        assert found["batch_items"] == 1
        assert found["model_ms_p99"] > 0
    assert watch.look()["trouble"].startswith("does not answer")


def test_names_of_producers_are_bounded() -> None:
    names = Names("first")
    numbers = [names.number(f"n{number}") for number in range(2 * MOST_NAMES)]
    assert len(names.all) == MOST_NAMES + 1
    assert names.all[-1] == OTHERS
    assert numbers[-1] == names.number(OTHERS) == names.number("another")
    assert names.number("n3") == numbers[3]


def test_a_log_of_a_training_is_followed(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    assert "No such file" in log.look()["trouble"]
    path = tmp_path / "log.jsonl"
    with path.open("w", buffering=1) as file:
        for step in range(2000):
            file.write(
                json.dumps({"step": step, "time": 100.0 + step, "l1": 1.0, "validation_l1": float("nan")}) + "\n"
            )
        file.write('not a line\n["nor this"]\n{"step": 2000, "time": 3000.0, "l1": 2')
        found = log.look()
        assert found["step"] == 1999, "the last line is not whole yet"
        assert len(found["training"][0]) == 500
        assert set(found["training"][1]) == {1.0}
        assert found["validation"] == [[], []], "NaN is no loss"
        file.write('.5}\n{"step": 2001, "time": 3001.0, "event": "published", "version": "000003-ab"}\n')
    found = log.look()
    assert found["step"] == 2001
    assert found["published"] == [{"step": 2001, "version": "000003-ab", "time": 3001.0}]
    assert found["snapshot_time"] == 3001.0
    path.write_text('{"step": 5, "time": 1.0, "training_loss": 3.0}\n')
    assert log.look()["training"] == [[5], [3.0]], "a new run in its place"


def test_connections_are_bounded_and_silence_ends_them(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    monkeypatch.setattr(connections, "SILENCE_S", 0.5)
    asyncio.run(_crowd(catalogue))


async def _crowd(catalogue: Catalogue) -> None:
    running = server_of(make_page(catalogue, Guard("127.0.0.1:0", None, "x"), Watched()))
    listener = listen("127.0.0.1:0")
    host, port = parse_address(f"127.0.0.1:{listener.getsockname()[1]}")
    serving = asyncio.create_task(running.serve([listener]))
    try:
        crowd = [await asyncio.open_connection(host, port) for _ in range(8)]
        # Three were too many; the others say nothing, or their request by the byte, and are ended too.
        crowd[0][1].write(b"GET /api/now HTTP/1.1\r\n")
        for reader, writer in crowd:
            with_end = await asyncio.wait_for(_all_of(reader), 10)
            assert with_end == b""
            writer.close()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(_all_of(reader), 10)).startswith(b"HTTP/1.1 200 OK")
        writer.close()
    finally:
        running.stop()
        await serving


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
