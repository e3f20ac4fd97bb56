"""`headrace bench sink`: every figure of the sink in one run.

Ratios are taken in turns, disk or network first, then the sink, round by round; the figure is the median of the rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tyro
from rich.console import Console

from deploy.bench.figures import Figure, table, write_json
from deploy.bench.frames import jpeg_frames
from deploy.bench.peers.plan import PeerPlan, PeerResult
from deploy.bench.peers.report import details, reader_table, speed_table
from deploy.bench.peers.run import run_peers
from deploy.bench.sink import crowd, restart, roll
from deploy.bench.sink.ingest import IngestBench, Plan
from protocol.errors import ConfigurationError

# A table that goes to a file needs no terminal's width.
_FILE_WIDTH = 120
_FRAMES = 64
_LARGE = (75_000, 480, 640)
_SMALL = (2_500, 64, 64)
PARTS = ("ingest", "curve", "reader", "ack", "stall", "restart", "roll")


@dataclass(frozen=True)
class SinkBenchFlags:
    """Measure the sink against its disk and its network, with a crowd of producers, and after a million episodes."""

    only: tuple[str, ...] = PARTS
    """Measure these parts only: ingest, curve, reader, ack, stall, restart, roll."""
    rounds: int = 7
    """Rounds of each comparison."""
    gigabytes: float = 1.5
    """Frames of one run [GB]."""
    steps: int = 100
    """Frames of an episode, 75 kB each."""
    peers: bool = False
    """Measure too what one would use instead: h5py with gzip, h5py in SWMR mode, LeRobotDataset."""
    environments: Path | None = None
    """With --peers: where the virtual environment of LeRobot is made and kept; beside the data by default."""
    out: Path | None = None
    """Measure on the disk of this directory; a temporary directory by default."""
    json: Path | None = None
    """Write the figures to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(SinkBenchFlags, prog="headrace bench sink", args=argv)
    unknown = [name for name in flags.only if name not in PARTS]
    if unknown or flags.rounds < 1:
        raise ConfigurationError(f"--only takes {', '.join(PARTS)}, found {unknown}; --rounds must be at least 1")
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=flags.out) as temporary:
        bench = SinkBench(flags, Path(temporary), Console(stderr=True))
        for name in flags.only:
            getattr(bench, name)()
        peers = bench.compare_peers() if flags.peers else []
    if peers:
        console.print(speed_table(peers))
        console.print(reader_table(peers))
    console.print(table("headrace bench sink", bench.figures))
    if flags.json:
        write_json(flags.json, bench.figures, {"peers": details(peers)})
    return 0 if all(figure.holds is not False for figure in bench.figures) else 1


class SinkBench:
    """Measures one part after the other and keeps the figures."""

    def __init__(self, flags: SinkBenchFlags, root: Path, console: Console) -> None:
        self.figures: list[Figure] = []
        self._flags, self._root, self._console = flags, root, console
        console.print("making frames …", highlight=False)
        self._large = jpeg_frames(_FRAMES, *_LARGE)
        self._large_folder = _write(root / "large", self._large)
        self._small_folder = _write(root / "small", jpeg_frames(_FRAMES, *_SMALL))
        size = sum(map(len, self._large)) / len(self._large)
        episodes = max(2, round(flags.gigabytes * 1e9 / size / flags.steps / 2) * 2)
        self._ingest = IngestBench(root, Plan(self._large_folder, episodes, flags.steps))

    def ingest(self) -> None:
        """Against `write` and `fdatasync`."""
        ratios, rates, disk = [], [], []
        for number in self._rounds("ingest against the disk"):
            # The disk before and after, so that a drift of the machine counts on neither side.
            before, ours, after = self._ingest.disk(), self._ingest.sink(), self._ingest.disk()
            disk += [before, after]
            rates.append(ours)
            ratios.append(2 * ours / (before + after))
            self._say(f"  {number}: disk {before:.0f} and {after:.0f}, sink {ours:.0f} MB/s")
        self._add("ingest_vs_disk", "×", ratios, 0.9)
        self._add("ingest_mb_per_s", "MB/s", rates)
        self._add("disk_mb_per_s", "MB/s", disk)

    def curve(self) -> None:
        """Against CURVE without storage."""
        ratios, rates, network = [], [], []
        for number in self._rounds("ingest with CURVE against the network"):
            before, ours, after = self._ingest.network(), self._ingest.sink(secured=True), self._ingest.network()
            network += [before, after]
            rates.append(ours)
            ratios.append(2 * ours / (before + after))
            self._say(f"  {number}: network {before:.0f} and {after:.0f}, sink {ours:.0f} MB/s")
        self._add("curve_vs_transport", "×", ratios, 0.8)
        self._add("curve_mb_per_s", "MB/s", rates)
        self._add("curve_transport_mb_per_s", "MB/s", network)

    def reader(self) -> None:
        """With a reader that follows, against without."""
        ratios = []
        for number in self._rounds("ingest with a reader"):
            before, with_reader, after = (
                self._ingest.sink(), self._ingest.sink(followed=True), self._ingest.sink()
            )  # fmt: skip
            ratios.append(1 - 2 * with_reader / (before + after))
            self._say(f"  {number}: {before:.0f} and {after:.0f}, with a reader {with_reader:.0f} MB/s")
        self._add("reader_cost", "", ratios, 0.03, most=True)

    def ack(self) -> None:
        """A thousand producers."""
        self._say(f"{crowd.PRODUCERS} producers, {crowd.RATE:.0f} episodes/s")
        delays = crowd.ack_delays_ms(self._root, self._small_folder)
        p99 = float(np.percentile(delays, 99))
        self.figures.append(Figure("sink.ack_p99_ms_1000", p99, "ms", 500.0, "at_most", delays))
        self.figures.append(Figure("sink.ack_p50_ms_1000", median(delays), "ms"))

    def stall(self) -> None:
        """A disk that stalls under a thousand producers."""
        self._say(f"{crowd.PRODUCERS} producers, and a disk that stalls for {crowd.STALL_S:.0f} s")
        found = crowd.stall(self._root, self._small_folder)
        share = found.peak_mb * 1e6 / (crowd.MEMORY_MIB << 20)
        self.figures.append(Figure("sink.stall_memory_share", share, "", 1.0, "at_most"))
        self.figures.append(Figure("sink.stall_peak_mb", found.peak_mb, "MB"))
        self.figures.append(Figure("sink.stall_payload_mb", found.in_flight_mb, "MB"))

    def restart(self) -> None:
        """A million episodes."""
        self._say(f"a dataset of {restart.EPISODES} episodes, then {restart.RUNS} restarts")
        self._add("restart_s_1m", "s", restart.restart_s(self._root), 2.0, most=True)

    def roll(self) -> None:
        """Shards that fill quickly."""
        self._say("shards that fill quickly")
        found = roll.measure(self._root, self._large_folder)
        usual = median(found.delays_ms)
        self._say(f"  {found.shards} shards; median ack {usual:.1f} ms, longest {max(found.delays_ms):.1f} ms")
        # All that exceeds the usual is counted against rolling, whatever its cause.
        longest = max(found.delays_ms) - usual
        self.figures.append(Figure("sink.roll_delay_ms", longest, "ms", 50.0, "at_most", found.delays_ms))

    def compare_peers(self) -> list[PeerResult]:
        """What one would use instead."""
        plan = PeerPlan(environments=self._flags.environments)
        return run_peers(self._large, plan, self._root / "peers", self._say)

    def _rounds(self, what: str) -> range:
        self._say(f"{what}, {self._flags.rounds} rounds")
        return range(1, self._flags.rounds + 1)

    def _add(self, name: str, unit: str, runs: list[float], bar: float | None = None, most: bool = False) -> None:
        sense = "at_most" if most else "at_least"
        self.figures.append(Figure(f"sink.{name}", median(runs), unit, bar, sense, runs))  # type: ignore[arg-type]

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)


def _write(folder: Path, frames: Sequence[bytes]) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        (folder / f"{number:04}.jpg").write_bytes(frame)
    return folder
