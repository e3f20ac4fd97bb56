"""`headrace top` over a real sink and a real inference server, and over what is neither."""

from __future__ import annotations

import math
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.scrape import look
from deploy.status_tables import shown, time_left
from deploy.top import main
from inference.server import ServerConfig
from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.errors import ConfigurationError
from protocol.metric_samples import quantile, since
from tests.fakes import counting_spec, publish
from tests.inference.conftest import RawClient
from tests.inference.conftest import running as running_server
from tests.inference.scenes import SmallSource, query
from tests.live_sink import RunSink, run_sink
from tests.processes import wait_until

__all__ = ["run_sink"]

HOSTILE = "\x1b[2J\x1b]0;mine\x07[red]me[/red]"


@pytest.fixture
def server_page() -> Iterator[str]:
    """The HTTP address of a server that has answered three queries."""
    config = ServerConfig(bind="tcp://127.0.0.1:0", http="127.0.0.1:0")
    with running_server(SmallSource(), config) as server, RawClient(server.endpoint) as client:
        for number in range(3):
            client.ask(query(id=number))
        assert server.http_address is not None
        yield server.http_address


def test_a_view_of_a_collection(run_sink: RunSink, server_page: str, capfd: pytest.CaptureFixture[str]) -> None:
    sink = run_sink()
    config = PublisherConfig(name=HOSTILE)
    with Publisher(sink.endpoint, counting_spec("tests/bold"), Goal(successes=4), config) as publisher:
        for index in publisher.leases():
            publish(publisher, index)
            if publisher.committed >= 2:
                break
        wait_until(lambda: _page(sink.http_address)["producers"], "the sink has seen it")
        nobody = "127.0.0.1:1"
        assert main(["--once", sink.http_address, server_page, nobody]) == 0
    said = capfd.readouterr().out
    assert "\x1b" not in said and "\x07" not in said  # noqa: PT018 -- one thing: what moves the cursor
    assert "tests/bold" in said
    assert "[red]me[/red]" in said
    assert "3 answered" in said
    assert "objects v1" in said
    assert f"{nobody} does not answer" in said


def test_nobody_there_is_status_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--once", "127.0.0.1:1"]) == 1
    assert "does not answer" in capfd.readouterr().out
    with pytest.raises(ConfigurationError, match="expected HOST:PORT"):
        main(["nonsense"])
    with pytest.raises(ConfigurationError, match="--interval 0"):
        main(["--interval", "0"])


def test_live_until_ctrl_c(run_sink: RunSink) -> None:
    sink = run_sink()
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "deploy.main", "top", sink.http_address, "--interval", "0.05"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    child = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=environment)
    os.close(other)
    said = bytearray()

    def read() -> None:
        try:
            while data := os.read(terminal, 65536):
                said.extend(data)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: said.count(b"sink, up for") >= 3, "three views")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait(30)
        reader.join(30)
        os.close(terminal)
    assert b"Traceback" not in said
    assert said.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor is shown again, and the screen that was there before


class _Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>" if self.path == "/status" else b"up 1\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_a_page_of_something_else_is_named_so() -> None:
    with HTTPServer(("127.0.0.1", 0), _Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            assert "something else than Headrace" in look(f"127.0.0.1:{server.server_port}").trouble
        finally:
            server.shutdown()
            thread.join()


def test_what_would_move_the_cursor_is_not_shown() -> None:
    assert shown(HOSTILE).plain == "?[2J?]0;mine?[red]me[/red]"


def test_quantiles_are_linear_within_a_bucket() -> None:
    counts = {"0.1": 50.0, "0.2": 100.0, "+Inf": 100.0}
    samples = {("x_bucket", (("le", le),)): count for le, count in counts.items()}
    assert quantile(0.5, samples, "x") == pytest.approx(0.1)
    assert quantile(0.75, samples, "x") == pytest.approx(0.15)
    assert math.isnan(quantile(0.5, {}, "x"))
    beyond = {("x_bucket", (("le", "0.1"),)): 0.0, ("x_bucket", (("le", "+Inf"),)): 3.0}
    assert quantile(0.5, beyond, "x") == 0.1


def test_a_server_that_began_anew_counts_from_zero() -> None:
    key = ("x_total", ())
    assert since({key: 5.0}, {key: 7.0}) == {key: 2.0}
    assert since({key: 5.0}, {key: 3.0}) == {key: 3.0}
    assert since(None, {key: 3.0}) == {key: 3.0}


def test_the_time_left_counts_failures_too() -> None:
    totals = {"goal_successes": 40, "successes": 10, "episodes": 20, "episodes_per_hour": 120.0}
    assert time_left(totals) == "30 min"
    assert time_left({**totals, "successes": 40, "episodes": 50}) == ""
    assert time_left({**totals, "goal_successes": 1000}) == "16.5 h"


def _page(address: str | None) -> dict[str, list[dict[str, str]]]:
    assert address is not None
    status = look(address).status
    assert status is not None
    return status
