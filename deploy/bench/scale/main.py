"""`headrace bench scale`: the delivery machines with 10 000 producers, in simulated time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import tyro
from rich.console import Console

from deploy.bench.figures import Figure, table, write_json
from deploy.bench.scale import cost, memory, model, scarce, story
from deploy.bench.scale.settings import Settings
from protocol.errors import ConfigurationError

# A table that goes to a file needs no terminal's width.
_FILE_WIDTH = 120
PARTS = ("story", "scarce", "memory", "cost", "model")
MIN_PRODUCERS = 20
# Messages of each comparison of costs, or one episode of each producer if that is more.
_COST_MESSAGES = 30_000


@dataclass(frozen=True)
class ScaleFlags:
    """Simulate many producers on one sink: fairness, deaths, a restart, memory, and what a message costs."""

    producers: int = 10_000
    """How many."""
    only: tuple[str, ...] = PARTS
    """These parts only: story, scarce, memory, cost, model."""
    seed: int = 1
    """Of all chance in it."""
    json: Path | None = None
    """Write the figures to this file."""
    plot: Path | None = None
    """Draw the model's prediction by size of a frame to this PNG; needs matplotlib."""


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print. Raises HeadraceError. Returns 1 if a bar is not reached."""
    flags = tyro.cli(ScaleFlags, prog="headrace bench scale", args=argv)
    unknown = [name for name in flags.only if name not in PARTS]
    if unknown:
        raise ConfigurationError(f"--only takes {', '.join(PARTS)}, found {unknown}")
    if flags.producers < MIN_PRODUCERS:
        raise ConfigurationError(f"--producers {flags.producers}: expected at least {MIN_PRODUCERS}")
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    bench = ScaleBench(flags, Console(stderr=True))
    for name in flags.only:
        getattr(bench, name)()
    if bench.figures:
        console.print(table(f"headrace bench scale, {flags.producers} producers", bench.figures))
    if "model" in flags.only:
        console.print(model.predictions())
    if flags.plot:
        from deploy.bench.scale.plot import draw  # matplotlib is asked for only here

        draw(flags.plot)
    if flags.json:
        write_json(flags.json, bench.figures, bench.details)
    return 0 if all(figure.holds is not False for figure in bench.figures) else 1


class ScaleBench:
    """Simulates one part after the other and keeps the figures."""

    def __init__(self, flags: ScaleFlags, console: Console) -> None:
        self.figures: list[Figure] = []
        self.settings = Settings(flags.producers, seed=flags.seed)
        self.details: dict[str, object] = {"settings": asdict(self.settings)}
        self._console = console

    def story(self) -> None:
        """One collection with deaths and a restart."""
        with cost.without_collector():
            found = story.tell(self.settings, self._say)
        each = found.episodes_each
        self._most("lost", found.lost, "", 0.0)
        self._most("doubled", found.doubled, "", 0.0)
        self._least("fairness", story.jain(each), 0.95)
        self._plain("episodes_each", median(each), "", [min(each), median(each), max(each)])
        # Freed by the first tick after the lease, then given to whoever asks; each asks about every 7 s.
        again, most = found.leased_again_s, self.settings.lease_s + 5.0
        self._most("leased_again_s", max(again), "s", most, [min(again), median(again), max(again)])
        self._most("back_s", found.back_s, "s", 10.0)
        counts, alive = found.counts, found.alive
        self._most("back_hellos_each", counts["hellos"] / alive, "", 1.5)
        headers = counts["header bytes up"] + counts["header bytes down"]
        self._plain("back_messages_each", (counts["messages up"] + counts["messages down"]) / alive, "")
        self._plain("back_kb_each", headers / alive / 1e3, "kB")
        self._most("peak_credit_share", found.peak_in_flight, "", 1.0)
        self.details["story"] = {**asdict(found), "episodes_each": story.histogram(each), "leased_again_s": len(again)}

    def scarce(self) -> None:
        """A tenth as many leases as producers."""
        self._say(f"{scarce.SCARCITY} producers for each lease")
        granted = scarce.leases_each(self.settings.producers, self.settings.seed)
        self._least("scarce_fairness", story.jain(granted), 0.95)
        self.details["scarce"] = story.histogram(granted)

    def memory(self) -> None:
        """What the sink knows of each."""
        self._say("memory of sessions, leases and credit")
        found = memory.measure(self.settings.producers)
        each = found.session + found.lease + found.episode
        self._most("state_kb_each", each / 1e3, "kB", 4.0)
        self._plain("state_mb", found.total_mb, "MB")
        self.details["memory"] = asdict(found)

    def cost(self) -> None:
        """By number of producers."""
        sizes = [size for size in (10, 100, 1000, 10_000) if size < self.settings.producers]
        found = []
        for size in (*sizes, self.settings.producers):
            self._say(f"processor time of the sink's machine with {size} producers")
            found.append(cost.measure(size, _COST_MESSAGES))
        times = [each.us_a_message for each in found]
        self._plain("us_a_message", times[-1], "us", times)
        self._plain("us_an_episode", found[-1].us_an_episode, "us", [each.us_an_episode for each in found])
        # Against a hundred: with ten, all that is known of them fits the processor's first cache.
        base = next((each for each in found if each.producers >= 100), found[0])
        self._most("cost_growth", times[-1] / base.us_a_message, "×", 2.0)
        self.details["cost"] = [asdict(each) for each in found]

    def model(self) -> None:
        """What the measured costs predict."""
        self.details["model"] = {work.name: model.most(work, model.Machine()) for work in model.WORKLOADS}

    def _plain(self, name: str, value: float, unit: str, runs: Sequence[float] = ()) -> None:
        self.figures.append(Figure(f"scale.{name}", value, unit, runs=list(runs)))

    def _most(self, name: str, value: float, unit: str, bar: float, runs: Sequence[float] = ()) -> None:
        self.figures.append(Figure(f"scale.{name}", value, unit, bar, "at_most", list(runs)))

    def _least(self, name: str, value: float, bar: float) -> None:
        self.figures.append(Figure(f"scale.{name}", value, "", bar))

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)
