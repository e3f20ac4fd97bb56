"""A sink on one host, producers on the others, keys for each host, and what the producers have written down."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from deploy import key_files
from tests.hosts.large_episodes import large_spec
from tests.hosts.network import Network
from tests.processes import Process, wait_until

SINK = 0


@dataclass(frozen=True)
class Entry:
    """A line of a producer's log. at: monotonic clock [s]."""

    at: float
    word: str
    number: int


@dataclass
class RemoteProducer:
    """One producer process."""

    name: str
    host: int
    process: Process
    log: Path

    def entries(self, word: str) -> list[Entry]:
        """What was said so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        entries = [Entry(float(line.split()[0]), line.split()[1], int(line.split()[2])) for line in lines]
        return [entry for entry in entries if entry.word == word]


class Collection:
    """Ends everything with `with`."""

    def __init__(self, network: Network, root: Path, steps: int, sink_flags: Sequence[str] = ()) -> None:
        """Start the sink; wait until it is ready. steps: of each episode."""
        self.spec = large_spec(steps)
        self.network, self.data, self.stop_file = network, root / "data", root / "stop"
        self._root, self._keys = root, root / "keys"
        self._sink_public = key_files.add_sink(self._keys).public
        self._ended = ExitStack()
        self.producers: list[RemoteProducer] = []
        flags = ("--data", self.data, "--bind", f"tcp://{network.address(SINK)}:0", "--keys", self._keys)
        more = ("--http", "127.0.0.1:0", "--shard-mib", "64", *sink_flags)
        self.sink = self._ended.enter_context(Process("-m", "sink", *flags, *more, on=network.on(SINK)))
        self.endpoint = self.sink.says(r"READY: data .*, producers at (\S+),")[1]

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.__exit__(kind, error, _)

    def add_key(self, host: int) -> Path:
        """A key of its own for a host."""
        made = key_files.add_client(self._keys, f"host{host}", self._sink_public)
        key_files.allow(self._keys, made.name, made.public)
        return key_files.client_path(self._keys, made.name)

    def add_producers(self, host: int, count: int, step_s: float) -> None:
        """Start producers on a host."""
        key = self.add_key(host)
        for number in range(count):
            name = f"host{host}-{number}"
            log = self._root / f"{name}.log"
            arguments = (self.endpoint, key, name, log, str(self.spec.max_steps), str(step_s), self.stop_file)
            process = Process("-m", "tests.hosts.producer", *arguments, on=self.network.on(host))
            self.producers.append(RemoteProducer(name, host, self._ended.enter_context(process), log))

    def on_host(self, host: int) -> list[RemoteProducer]:
        """The producers there."""
        return [producer for producer in self.producers if producer.host == host]

    def committed(self, *hosts: int) -> list[Entry]:
        """The acknowledgements that reached these hosts (all), in order of time."""
        chosen = [p for p in self.producers if p.host in hosts or not hosts]
        return sorted((e for p in chosen for e in p.entries("committed")), key=lambda entry: entry.at)

    def wait_for_commits(self, count: int, since: float, hosts: Sequence[int] = (), deadline_s: float = 60.0) -> None:
        """Until every producer of these hosts (all) has had so many acknowledgements since then."""

        def enough() -> bool:
            chosen = [p for p in self.producers if p.host in hosts or not hosts]
            return all(sum(e.at >= since for e in p.entries("committed")) >= count for p in chosen)

        self.wait(enough, f"{count} commits of each producer of {hosts or 'all hosts'}", deadline_s)

    def wait(self, condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
        """Like wait_until, with everyone alive."""
        wait_until(lambda: self.check_alive() or condition(), what, deadline_s)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        ends = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= ends, "the pause ends", seconds + 60)

    def check_alive(self) -> None:
        """Everyone runs."""
        for process in (self.sink, *(producer.process for producer in self.producers)):
            assert process.child.poll() is None, f"a program ended: {process.output}"

    def finish(self) -> None:
        """Let the producers end their episodes and leave, then the sink."""
        self.stop_file.touch()
        for producer in self.producers:
            assert producer.process.wait() == 0, producer.process.output
        self.sink.child.send_signal(signal.SIGTERM)
        assert self.sink.wait() == 0, self.sink.output


def longest_gap(entries: Sequence[Entry], began: float, ended: float) -> float:
    """The longest time without an entry between two moments [s]."""
    times = [began, *(entry.at for entry in entries if began < entry.at < ended), ended]
    return max(after - before for before, after in pairwise(times))


def rate(entries: Sequence[Entry], began: float, ended: float) -> float:
    """Entries a second between two moments."""
    return sum(began <= entry.at < ended for entry in entries) / (ended - began)
