"""Ingest at full speed: two producers over TCP, against what disk and network do by themselves, taken in turns."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy import key_files
from deploy.bench.browser import browser_at
from deploy.bench.sink.children import Child, children
from deploy.processes import ProgramError, start_sink

PRODUCERS = 2
SINK_WORDS = ("--memory-mib", "512", "--max-producers", "8", "--shard-mib", "1024")


@dataclass(frozen=True)
class Plan:
    """frames: directory of JPEG files. episodes: in all. steps: frames of an episode."""

    frames: Path
    episodes: int
    steps: int

    @property
    def count(self) -> int:
        """Frames in all."""
        return self.episodes * self.steps


class IngestBench:
    """Single runs; each gives a rate of payload [MB/s] and leaves nothing behind."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self._root, self._plan = root, plan
        self._go = root / "go"
        sizes = [path.stat().st_size for path in sorted(plan.frames.glob("*.jpg"))]
        self._bytes = sum(sizes[number % len(sizes)] for number in range(plan.count))

    def disk(self) -> float:
        """`write` and `fdatasync` of the same frames."""
        words = ["--out", str(self._root / "plain.bin"), "--frames", str(self._plan.frames)]
        words += ["--episodes", str(self._plan.episodes), "--steps", str(self._plan.steps)]
        with children() as started:
            started.append(Child("deploy.bench.sink.plain_write", words, self._root / "plain.log"))
            found = started[0].result()
        return float(found["bytes"] / found["seconds"] / 1e6)

    def sink(self, secured: bool = False, followed: bool = False, watched: bool = False) -> float:
        """Through the sink: checks, checksums, commits and acknowledgements on. From the start to the last ack.

        followed: by a reader. watched: by a browser on the sink's page.
        """
        data, logs = self._root / "data", self._root / "logs"
        data.mkdir()
        words, key = list(SINK_WORDS), []
        if secured:
            keys, client = self._keys()
            words += ["--keys", str(keys)]
            key = ["--key", str(client)]
        sink, endpoint, http = start_sink(data, logs, words)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, data)
            undo.callback(sink.stop)
            started = undo.enter_context(children())
            if followed:
                started.append(Child("deploy.bench.sink.tail", ["--data", str(data)], self._root / "tail.log"))
            if watched:
                undo.enter_context(browser_at(f"http://{http}/", self._root / "browser"))
            share = self._plan.episodes // PRODUCERS
            words = ["--sink", endpoint, "--frames", str(self._plan.frames), "--wait", str(self._go), *key]
            words += ["--episodes", str(share), "--steps", str(self._plan.steps)]
            producers = [
                Child("producers.bench.load", words, self._root / f"load-{number}.log") for number in range(PRODUCERS)
            ]
            started += producers
            began = self._start(started)
            results = [producer.result() for producer in producers]
        acked = [time for result in results for time in result["acked"].values()]
        if len(acked) != share * PRODUCERS:
            raise ProgramError(f"{len(acked)} episodes were acknowledged, {share * PRODUCERS} were sent")
        return float(self._bytes / (max(acked) - began) / 1e6)

    def _keys(self) -> tuple[Path, Path]:
        """The keys directory, and the key file of a client."""
        keys = self._root / "keys"
        if not keys.exists():
            sink = key_files.add_sink(keys)
            client = key_files.add_client(keys, "bench", sink.public)
            key_files.allow(keys, "bench", client.public)
        return keys, key_files.client_path(keys, "bench")

    def network(self) -> float:
        """CURVE over TCP from as many senders, to a receiver that drops everything."""
        keys, client = self._keys()
        with children() as started:
            words = ["receive", "--senders", str(PRODUCERS), "--keys", str(keys)]
            receiver = Child("deploy.bench.sink.transport", words, self._root / "receive.log")
            started.append(receiver)
            words = ["send", "--endpoint", receiver.first_line(), "--frames", str(self._plan.frames)]
            words += ["--count", str(self._plan.count // PRODUCERS), "--wait", str(self._go), "--key", str(client)]
            senders = [
                Child("deploy.bench.sink.transport", words, self._root / f"send-{number}.log")
                for number in range(PRODUCERS)
            ]
            started += senders
            began = self._start(senders)
            found = receiver.result()
        return float(found["bytes"] / (found["last"] - began) / 1e6)

    def _start(self, waiting: Sequence[Child]) -> float:
        """Let all begin at once; returns when that was, time.time() [s]."""
        self._go.unlink(missing_ok=True)
        for child in waiting:
            child.wait_ready()
        self._go.touch()
        return self._go.stat().st_mtime
