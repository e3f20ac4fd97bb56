"""A sink and its producers, each behind a link of its own, and what they have said so far."""

from __future__ import annotations

import random
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import CheckingReader
from tests.processes import Process, wait_until
from tests.system.bad_link import BadLink
from tests.system.counting_producer import REFUSED

LEASE_S = 1.0
# Nobody reaches it: producers work until they are told to stop.
ENDLESS = 10**6
# Looking at the whole disk takes at most this share of the time.
CHECKING_SHARE = 0.15


def free_port() -> int:
    """One that no outgoing connection is given meanwhile, so that a sink that comes back finds it free.

    Not a function of the seed: two campaigns at the same time must not meet while a sink of one is dead.
    """
    for port in random.SystemRandom().sample(range(21_000, 29_000), 100):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class ClusterSink(Process):
    """A sink with a short lease, small shards, a quota, and a clock that can be set."""

    def __init__(self, data: Path, port: int, clock: Path, quota_mib: int) -> None:
        flags = ("--shard-mib", "1", "--memory-mib", "160", "--max-producers", "40", "--lease-s", str(LEASE_S))
        where = ("--data", data, "--bind", f"tcp://127.0.0.1:{port}", "--http", "127.0.0.1:0")
        super().__init__("-m", "tests.system.skewed", clock, "sink", *where, *flags, "--quota-mib", str(quota_mib))

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an HTTP page; waits until the sink is ready."""
        address = self.says(r"READY: data .*, producers at \S+, http (\S+)")[1]
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return 200, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


class Record:
    """What one producer has written so far."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.last: dict[str, int] = {}  # the last number after each word
        self.acked: set[int] = set()
        self.count: Counter[str] = Counter()

    def read(self) -> None:
        """Read what is new; the last line may be cut off by a kill."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            word, _, number = line.decode().partition(" ")
            self.last[word] = int(number)
            self.count[word] += 1
            if word == "committed":
                self.acked.add(int(number))

    def close(self) -> None:
        """Forget the file."""
        self._file.close()


@dataclass
class Place:
    """Where a producer works: when it dies, another one takes its place."""

    link: BadLink
    clock: Path
    producer: Process | None = None
    killed: bool = False
    stopped: bool = False


class Cluster:
    """All of it. `tick` has to be called often."""

    def __init__(self, root: Path, producers: int, step_s: float, quota_mib: int, seed: int) -> None:
        self.data, self.folder, self.stop_file = root / "data", root / "logs", root / "stop"
        self.folder.mkdir()
        self.step_s, self.quota_mib = step_s, quota_mib
        self.rng = random.Random(seed)
        self.port = free_port()
        self.sink_clock = self._clock("sink")
        self.sink = ClusterSink(self.data, self.port, self.sink_clock, quota_mib)
        self.sinks = 1
        self.sink_stopped = False
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()
        self.checking_s = 0.0
        self.records: list[Record] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.places = [
            Place(BadLink(self.port, self.rng.getrandbits(32)), self._clock(f"producer-{number}"))
            for number in range(producers)
        ]
        self.garbled = False  # a producer may be refused for what a link made of its words
        self.tick()

    def _clock(self, name: str) -> Path:
        path = self.folder / f"{name}.clock"
        path.write_text("0")
        return path

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen in a while."""
        self._later.append((time.monotonic() + seconds, action))

    def pause(self, seconds: float) -> None:
        """Let time pass, and let happen what is due."""
        ends = time.monotonic() + seconds
        wait_until(lambda: self.tick() or time.monotonic() >= ends, "the pause ends", seconds + 60)

    def wait(self, condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
        """Like wait_until, with everything going on."""
        wait_until(lambda: self.tick() or condition(), what, deadline_s)

    def tick(self) -> None:
        """Do what is due, read what was said, replace the dead."""
        due = [action for at, action in self._later if at <= time.monotonic()]
        self._later = [(at, action) for at, action in self._later if at > time.monotonic()]
        for action in due:
            action()
        for record in self.records:
            record.read()
        assert self.sink.child.poll() is None, f"the sink ended: {self.sink.output}"
        if not self.stop_file.exists():
            for place in self.places:
                self._fill(place)

    def _fill(self, place: Place) -> None:
        old = place.producer
        if old is not None:
            status = old.child.poll()
            if status is None:
                return
            old.wait()
            (self.folder / f"{len(self.records)}-{old.child.pid}-died.log").write_text(old.output)
            if status == REFUSED and self.garbled:
                self.counts["producers refused for garbled words"] += 1
            else:
                assert place.killed, f"a producer ended with {status}: {old.output}"
        place.producer = self.start_producer(place.link.endpoint, ENDLESS, place.clock)
        place.killed = place.stopped = False

    def start_producer(self, endpoint: str, successes: int, clock: Path) -> Process:
        """One more producer."""
        path = self.folder / f"producer-{len(self.records)}.log"
        self.records.append(Record(path))
        arguments = ("tests.system.counting_producer", endpoint, str(successes), path, str(self.step_s), self.stop_file)
        return Process("-m", "tests.system.skewed", clock, *arguments)

    # --- what they said ---------------------------------------------------------------------------------------

    @property
    def acked(self) -> set[int]:
        """All that any producer was told to be committed."""
        return set().union(*(record.acked for record in self.records))

    @property
    def acks(self) -> int:
        """How often."""
        return self.said("committed")

    def said(self, word: str) -> int:
        """How many lines begin with a word."""
        return sum(record.count[word] for record in self.records)

    def total(self, word: str) -> int:
        """The sum of the last numbers after a word."""
        return sum(record.last.get(word, 0) for record in self.records)

    # --- the sink ---------------------------------------------------------------------------------------------

    def end_sink(self, kill: bool) -> None:
        """By SIGKILL or SIGTERM; what is on disk then has everything that was acknowledged."""
        self._count_refusals()
        if kill:
            self.sink.kill()
        else:
            self.resume_sink()
            assert self.sink.terminate() == 0, self.sink.output
        (self.folder / f"sink-{self.sinks}.log").write_text(self.sink.output)
        for record in self.records:
            record.read()
        began = time.monotonic()
        if self.checking_s < CHECKING_SHARE * (began - self.began) and any(self.data.glob("tests/counting/*.h5")):
            assert self.acked <= set(CheckingReader(self.data).indices), "something acknowledged is not on disk"
            self.checking_s += time.monotonic() - began
            self.counts["looks at the disk of a dead sink"] += 1

    def _count_refusals(self) -> None:
        """What this life of the sink has refused so far, unless it is asleep or has only just begun."""
        if not self.sink_stopped and any("READY" in line for line in list(self.sink.lines)):
            for line in self.sink.get("/metrics")[1].splitlines():
                if line.startswith("headrace_sink_refused_total"):
                    code = line.split('"')[1]
                    self.counts[f"messages refused: {code}"] += int(float(line.split()[-1]))

    def health(self) -> tuple[int, str]:
        """/healthz of a sink that runs and is ready."""
        self.resume_sink()
        return self.sink.get("/healthz")

    def start_sink(self) -> None:
        """A new life; does not wait until it is ready."""
        self.sink = ClusterSink(self.data, self.port, self.sink_clock, self.quota_mib)
        self.sinks += 1
        self.sink_stopped = False

    def stop_sink(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.sink.child.send_signal(signal.SIGSTOP)
        self.sink_stopped = True
        self.later(seconds, self.resume_sink)

    def resume_sink(self) -> None:
        """SIGCONT."""
        if self.sink_stopped:
            self.sink.child.send_signal(signal.SIGCONT)
            self.sink_stopped = False

    # --- producers --------------------------------------------------------------------------------------------

    def kill_producer(self, place: Place) -> None:
        """SIGKILL."""
        place.killed = True
        assert place.producer is not None
        place.producer.kill()

    def stop_producer(self, place: Place, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        producer = place.producer
        assert producer is not None
        if producer.child.poll() is None:
            producer.child.send_signal(signal.SIGSTOP)
            self.later(seconds, lambda: producer.child.poll() is None and producer.child.send_signal(signal.SIGCONT))

    # --- the end ----------------------------------------------------------------------------------------------

    def end(self) -> None:
        """SIGTERM, when all is done."""
        for record in self.records:
            record.read()
        self._count_refusals()
        assert self.sink.terminate() == 0, self.sink.output

    def finish(self) -> None:
        """Lift all faults, and let every producer leave."""
        self.wait(lambda: not self._later, "what was stopped goes on")
        self.health()
        self.stop_file.touch()
        producers = [place.producer for place in self.places if place.producer is not None]
        self.wait(lambda: all(producer.child.poll() is not None for producer in producers), "the producers leave", 90)
        for place in self.places:
            assert place.producer is not None
            status = place.producer.wait()
            assert status == 0 or place.killed or (status == REFUSED and self.garbled), place.producer.output
        self.stop_file.unlink()

    def close(self) -> None:
        """Kill and close what is left."""
        (self.folder / f"sink-{self.sinks}.log").write_text(self.sink.output)
        self.sink.kill()
        for number, place in enumerate(self.places):
            if place.producer is not None:
                place.producer.kill()
                (self.folder / f"place-{number}.log").write_text(place.producer.output)
            place.link.close()
        for record in self.records:
            record.close()
