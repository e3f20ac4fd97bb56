"""Alerts and dashboard mean something: a real Prometheus scrapes a real collection and answers every one of them."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference.server import ServerConfig
from producers.publisher import Goal, Publisher
from tests.fakes import counting_spec, publish
from tests.inference import conftest as inference
from tests.inference.scenes import SmallSource, query
from tests.live_sink import RunSink
from tests.processes import REPOSITORY, wait_until

MONITORING = REPOSITORY / "deploy" / "monitoring"
PROMETHEUS = REPOSITORY / "build" / "prometheus"
# A healthy collection has no series of these, and a panel that has only them would be empty.
SELDOM = ("headrace_sink_refused_total", "headrace_sink_rejected_total", "headrace_sink_connections_cut_total")


@pytest.fixture(scope="module")
def tools() -> Path:
    """Folder of prometheus and promtool; `make test` has put them there."""
    missing = PROMETHEUS / "missing"
    if missing.exists() or not PROMETHEUS.exists():
        pytest.skip(missing.read_text() if missing.exists() else "tests/monitoring/get_prometheus.sh has not run")
    return PROMETHEUS / "bin"


def promtool(tools: Path, *words: str) -> None:
    done = subprocess.run([tools / "promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration(tools: Path) -> None:
    promtool(tools, "check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tools: Path) -> None:
    promtool(tools, "test", "rules", "alerts.test.yml")
    named = {rule["alert"] for rule in rules()}
    tested = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())["tests"]
    assert {case["alertname"] for case in tested[0]["alert_rule_test"]} == named
    assert tested[1]["promql_expr_test"][0]["exp_samples"][0]["value"] == len(named)


def test_each_alert_is_explained() -> None:
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    assert [rule["alert"] for rule in rules() if f"| `{rule['alert']}` |" not in page] == []


def test_a_real_prometheus_answers_every_query(tools: Path, tmp_path: Path, run_sink: RunSink) -> None:
    sink = run_sink()
    with (
        inference.running(SmallSource(), ServerConfig(bind="tcp://127.0.0.1:0", http="127.0.0.1:0")) as server,
        busy(sink.endpoint, server.endpoint),
        prometheus(tools, tmp_path, sink.http_address, server.http_address) as address,
    ):
        ask(address, 'up{job="headrace-sink"}')
        for expression in (*(rule["expr"] for rule in rules()), *panel_expressions()):
            always = not any(name in expression for name in SELDOM) and expression in panel_expressions()
            wait_until(
                lambda expression=expression, always=always: ask(address, expression) or not always,
                f"data for {expression}",
            )


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_expressions() -> list[str]:
    """Of every panel, for all instances; rates over what a short test has."""
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(expressions) > 20
    changes = (("$sink", ".*"), ("$server", ".*"), ("[15m]", "[10s]"), ("[5m]", "[10s]"), ("[1m]", "[10s]"))
    for old, new in changes:
        expressions = [expression.replace(old, new) for expression in expressions]
    return expressions


def ask(address: str, expression: str) -> list[Any]:
    """The series that a query gives now, NaN left out. An error of the query fails the test."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}", timeout=30) as answer:
        found = json.load(answer)
    assert found["status"] == "success", found
    return [series for series in found["data"]["result"] if series["value"][1] != "NaN"]


@contextmanager
def prometheus(tools: Path, folder: Path, sink: str, server: str) -> Iterator[str]:
    """A Prometheus with our jobs at these addresses; its own."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(MONITORING / "alerts.yml")]
    for job, target in zip(config["scrape_configs"], (sink, server), strict=True):
        job["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [tools / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stderr=log, stdout=log)
        try:
            found: list[str] = []

            def listens() -> bool:
                text = (folder / "log").read_text()
                assert child.poll() is None, text
                found.extend(re.findall(r"address=(127\.0\.0\.1:[1-9]\d*)", text))
                return bool(found)

            wait_until(listens, "Prometheus says where it listens")
            wait_until(lambda: _ready(found[0]), "Prometheus is ready")
            yield found[0]
        finally:
            child.terminate()
            child.wait(30)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def busy(sink: str, server: str) -> Iterator[None]:
    """Episodes and queries go on until the body ends."""
    ended = threading.Event()

    def collect() -> None:
        with Publisher(sink, counting_spec(), Goal(end=1 << 20)) as publisher:
            for index in publisher.leases():
                publish(publisher, index)
                if ended.wait(0.05):
                    break

    def plan() -> None:
        with inference.RawClient(server) as client:
            number = 0
            while not ended.wait(0.05):
                number += 1
                client.ask(query(id=number))

    threads = [threading.Thread(target=work) for work in (collect, plan)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
