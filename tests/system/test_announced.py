"""Sinks that are found by a file: they move, they change their keys, and they are not there yet. Real processes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from producers.publisher import Goal, Publisher, PublisherConfig
from protocol.announcement import Announcement, read_announcement
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from tests.fakes import CheckingReader, counting_spec, publish
from tests.processes import Process, SinkProcess, wait_until
from tests.security.key_ring import KeyRing

SPEC = counting_spec()
SUCCESSES = 30


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sink.json"


def sink(data: Path, file: Path, *flags: str | Path, bind: str = "tcp://127.0.0.1:0") -> SinkProcess:
    return SinkProcess(data, "--announce", file, *flags, bind=bind)  # type: ignore[arg-type]


def announced(file: Path, generation: int) -> Announcement:
    wait_until(lambda: file.exists() and read_announcement(file).generation == generation, f"generation {generation}")
    return read_announcement(file)


def counted(log: Path, word: str = "committed") -> int:
    return log.read_text().count(word) if log.exists() else 0


def test_a_sink_that_moves_is_found_while_a_producer_publishes(tmp_path: Path, file: Path) -> None:
    """The producer is there first. One life of the sink is killed, one ends cleanly; each is at another port."""
    data, log = tmp_path / "data", tmp_path / "log"
    arguments = ("-m", "tests.system.counting_producer", file, str(SUCCESSES), log, "0.02", tmp_path / "stop")
    endpoints = []
    with Process(*arguments) as producer:
        for generation in (1, 2, 3):
            before = counted(log)
            with sink(data, file) as life:
                endpoints.append(announced(file, generation).endpoint)
                life.says("announced in")
                if generation == 3:
                    assert producer.wait() == 0, producer.output
                    assert life.terminate() == 0
                    break
                wait_until(lambda before=before: counted(log) >= before + 4, "some more are committed")  # type: ignore[misc]
                if generation == 2:
                    assert life.terminate() == 0
                    assert read_announcement(file).stopped is not None
                else:
                    life.kill()
                    assert read_announcement(file).stopped is None
    assert len(set(endpoints)) == 3
    found = CheckingReader(data)
    assert len(found.successes) == SUCCESSES
    done = sorted(int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("committed"))
    assert done == found.indices


def test_keys_that_change_are_an_error_and_not_trusted(tmp_path: Path, file: Path) -> None:
    ours, others = KeyRing(tmp_path / "ours"), KeyRing(tmp_path / "others")
    publisher = Publisher(str(file), SPEC, Goal(end=3), PublisherConfig(key=ours.client()))
    leases = publisher.leases()
    with sink(tmp_path / "data", file, "--keys", ours.path) as life:
        publish(publisher, next(leases))
        publisher.flush()
        assert life.terminate() == 0
    with sink(tmp_path / "others_data", file, "--keys", others.path):
        announced(file, 2)
        with pytest.raises(ConfigurationError, match="nothing is sent there"):
            next(leases)
        publisher.close(flush=False)
    assert CheckingReader(tmp_path / "data").indices == [0]
    assert CheckingReader(tmp_path / "others_data").indices == []


def test_keys_of_a_life_that_is_over_do_not_matter(tmp_path: Path, file: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    with sink(tmp_path / "data", file) as without:
        announced(file, 1)
        assert without.terminate() == 0
    config, flags = PublisherConfig(key=keys.client()), ("--keys", keys.path)
    with Publisher(str(file), SPEC, Goal(end=1), config) as publisher, sink(tmp_path / "data", file, *flags):
        for index in publisher.leases():
            publish(publisher, index)
    assert CheckingReader(tmp_path / "data").indices == [0]


def test_a_wildcard_is_announced_so_that_it_can_be_reached(tmp_path: Path, file: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    flags = ("--keys", keys.path, "--advertise", "127.0.0.1")
    with sink(tmp_path / "data", file, *flags, bind="tcp://0.0.0.0:0") as life:
        found = announced(file, 1)
        assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", found.endpoint)
        assert found.public_key == keys.sink.public
        with Publisher(str(file), SPEC, Goal(end=1), PublisherConfig(key=keys.client())) as publisher:
            for index in publisher.leases():
                publish(publisher, index)
        with pytest.raises(ConfigurationError, match="wants a key, and we have none"):
            Publisher(str(file), SPEC, Goal(end=1))
        assert life.terminate() == 0
    assert CheckingReader(tmp_path / "data").indices == [0]


def test_a_file_that_does_not_come_is_an_error_in_time(file: Path) -> None:
    publisher = Publisher(str(file), SPEC, Goal(end=1), PublisherConfig(wait_s=1.0))
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=f"there is no {file} yet; waited 1 s"):
        next(publisher.leases())
    assert 0.5 < time.monotonic() - began < 20
    publisher.close()


def test_garbage_in_the_file_is_an_error_at_first_and_waited_out_later(tmp_path: Path, file: Path) -> None:
    file.write_text('{"format": "headrace-announce')
    with pytest.raises(ConfigurationError, match="is no announcement, or not a whole one"):
        Publisher(str(file), SPEC, Goal(end=1))
    file.unlink()
    with Publisher(str(file), SPEC, Goal(end=2)) as publisher:
        leases = publisher.leases()
        with sink(tmp_path / "data", file) as life:
            publish(publisher, next(leases))
            publisher.flush()
            life.kill()
        whole = file.read_text()
        file.write_text(whole[:60])
        wait_until(lambda: "no announcement" in publisher._link.address.reason, "the garbage was seen")
        with sink(tmp_path / "data", file):
            for index in leases:
                publish(publisher, index)
    assert CheckingReader(tmp_path / "data").indices == [0, 1]


def produce(file: Path, *flags: str) -> Process:
    words = ("produce", "namo", "--sink", file, "--workers", "1", "--end-idx", "3", "--difficulty", "easy", "--plain")
    return Process("-m", "deploy.main", *words, *flags)


@pytest.mark.parametrize(("wait_s", "said"), [("0", False), ("0.5", True)])
def test_produce_waits_as_long_as_it_is_told(file: Path, wait_s: str, said: bool) -> None:
    with produce(file, "--wait-s", wait_s) as process:
        assert process.wait() == 1
        assert f"there is no {file} yet; waited {wait_s} s (--wait-s) for what a sink writes" in process.output
        assert (process.output.count(f"waiting for it up to {wait_s} s") == 1) == said
        assert "Traceback" not in process.output


def test_another_version_is_refused_with_both_named(tmp_path: Path, file: Path) -> None:
    with sink(tmp_path / "data", file) as life:
        announced(file, 1)
        assert life.terminate() == 0
    content = json.loads(file.read_text())
    del content["stopped"]
    file.write_text(json.dumps({**content, "protocol": 2}))
    with produce(file) as process:
        assert process.wait() == 1
        assert "speaks version 2 (release" in process.output
        assert "this client version 1; install the same release" in process.output
    file.write_text(json.dumps({**content, "role": "inference"}))
    with produce(file) as process:
        assert process.wait() == 1
        assert "expected where the sink is, found where the inference server is" in process.output


def test_planners_find_both_servers_by_files_and_show_both_one_key(tmp_path: Path, file: Path) -> None:
    """Everything starts at once, in the order in which nothing works yet."""
    keys, models, data = KeyRing(tmp_path / "keys"), tmp_path / "infer.json", tmp_path / "data"
    named = ("--object-strategy", "ml", "--ml-object-model", "objects", "--goal-strategy", "ml", "--ml-goal-model")
    asks = ("--inference", str(models), "--key", str(keys.client()), "--ml-deadline", "20", "--max-pushes", "20")
    server = ("-m", "tests.inference.server_program", "tcp://0.0.0.0:0", keys.path, models)
    where = ("--keys", keys.path, "--advertise", "127.0.0.1")
    with produce(file, *named, "goals", *asks) as planners, Process(*server) as inference:
        planners.says(f"there is no {file} yet; waiting for it")
        with sink(data, file, *where, bind="tcp://0.0.0.0:0") as life:
            wait_until(lambda: planners.child.poll() is not None, "the search ends", 150)
            assert planners.wait() == 0, planners.output
            assert life.terminate() == 0
        assert inference.terminate() == 0
    with DatasetView(data) as view:
        asked = [episode.attributes()["ml"] for episode in view.new_episodes()]
    assert len(asked) == 3
    assert sum(each["answered"] for each in asked) > 0, asked
    assert not any("unreachable" in each["fallbacks"] for each in asked), asked
