"""Malformed messages in great number against a real sink, with an honest producer beside them."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path

import pytest

from sink import verify
from tests.fakes import CheckingReader
from tests.processes import Process, SinkProcess, wait_until
from tests.strangers.malformed import KINDS
from tests.strangers.surroundings import Surroundings

MESSAGES = int(os.environ.get("HEADRACE_SOAK_MESSAGES", "10000"))
MEMORY_MIB = 192
# The honest producer must get on in each of so many parts of the time.
PARTS = 5


def _get(sink: SinkProcess, path: str) -> str:
    with urllib.request.urlopen(f"http://{sink.http}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def _honest_episodes(sink: SinkProcess) -> int:
    found: int = json.loads(_get(sink, "/status"))["streams"].get("tests/counting", {}).get("episodes", 0)
    return found


@pytest.mark.timeout(0 if MESSAGES > 100_000 else 280)
def test_malformed_messages_harm_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    around = Surroundings(tmp_path)
    flags = ("--memory-mib", str(MEMORY_MIB), "--max-streams", "24")
    with SinkProcess(around.data, *flags) as sink:
        sink.ready()
        log = tmp_path / "inner" / "data" / "honest.log"
        arguments = (sink.endpoint, "1000000000", log, "0.004", "no such file")
        honest = Process("-m", "tests.system.counting_producer", *arguments)
        with honest:
            wait_until(lambda: _honest_episodes(sink) > 0, "the honest producer begins")
            found = _attack(sink)
            assert honest.child.poll() is None, honest.output
            assert _get(sink, "/healthz") == "ok\n"
            metrics = _get(sink, "/metrics")
        assert sink.terminate() == 0, sink.output
        assert "Traceback" not in sink.output
    around.check()
    log.unlink()
    reader = CheckingReader(around.data)
    assert reader.indices
    assert verify.main([str(around.data)]) == 0
    assert set(found["kinds"]) == {kind.__name__ for kind in KINDS}
    labels = {line.split(" ")[0] for line in metrics.splitlines() if not line.startswith("#")}
    assert len(labels) < 400, "strangers make new metrics"
    assert len(sink.lines) < 60 * (20 + len(KINDS)), "strangers fill the log"
    with capsys.disabled():
        rows = [f"{name}: {count}" for part in ("kinds", "refusals") for name, count in sorted(found[part].items())]
        refused = sorted(line for line in metrics.splitlines() if line.startswith("headrace_sink_refused_total"))
        print(f"\n{found['malformed']} malformed of {found['sent']} messages,", ", ".join(rows), *refused, sep="\n")  # noqa: T201
        print(f"{len(reader.indices)} honest episodes; most memory {found['memory'] / 2**20:.1f} MiB")  # noqa: T201


def _attack(sink: SinkProcess) -> dict[str, dict[str, int]]:
    """Fuzz in parts: in each of them the honest producer gets on, and the memory stays in its bound."""
    total: dict[str, dict[str, int]] = {"kinds": {}, "refusals": {}}
    sums = {"malformed": 0, "sent": 0, "memory": 0}
    arguments = ("-m", "tests.strangers.attacker", sink.endpoint, str(MESSAGES), "1", str(PARTS))
    with Process(*arguments) as attacker:
        for part in range(PARTS):
            before = _honest_episodes(sink)
            while not any(line.startswith(f"PART {part} ") for line in list(attacker.lines)):
                sums["memory"] = max(sums["memory"], sink.memory())
                assert sink.child.poll() is None, sink.output
                assert attacker.child.poll() in (None, 0), attacker.output
                time.sleep(0.02)
            served = f"the honest producer is served in part {part}"
            wait_until(lambda: _honest_episodes(sink) - before >= 3, served)  # noqa: B023
            said = json.loads(attacker.says(rf"PART {part} (.*)")[1])
            for name in total:
                for kind, count in said[name].items():
                    total[name][kind] = total[name].get(kind, 0) + count
            sums["malformed"] += said["malformed"]
            sums["sent"] += said["sent"]
        assert attacker.wait() == 0, attacker.output
    assert sums["memory"] < MEMORY_MIB << 20, f"{sums['memory'] / 2**20:.1f} MiB"
    return {**total, **sums}  # type: ignore[dict-item]
