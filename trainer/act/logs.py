"""What a training run tells: a JSON line and TensorBoard now and then, a progress bar, and a plot at the end."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
PLOT = "loss.png"
_PLAIN_EVERY_S = 10.0


class Logs:
    """Of one run; `with` closes the files. Nothing here changes what is trained."""

    def __init__(self, out: Path, first_step: int, last_step: int | None, console: Console, plain: bool) -> None:
        """first_step: lines behind it, of a run that died after its last checkpoint, are dropped."""
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        _drop_behind(out / LOG, first_step)
        self._file = (out / LOG).open("a")
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)
        self._console, self._said_at = console, 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=plain or not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=last_step, completed=first_step)
        self._plain = self._progress.disable

    def __enter__(self) -> Logs:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._progress.stop()
        self._board.close()
        self._file.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log numbers of a step under their names."""
        line = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._progress.update(self._task, description=told[:60])
        if self._plain and (time.monotonic() - self._said_at > _PLAIN_EVERY_S or "validation_l1" in values):
            self._said_at = time.monotonic()
            self.say(f"step {step}: {told}")

    def advance(self, step: int) -> None:
        """One more step is done."""
        self._progress.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def plot(self) -> Path:
        """Draw the losses of the whole log; returns the picture's path."""
        return plot(self.out / LOG, self.out / PLOT)


def read_log(path: Path) -> list[dict[str, int | float]]:
    """Its lines; a last one that is cut off is left out."""
    lines = []
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with suppress(msgspec.DecodeError):
                lines.append(msgspec.json.decode(line, type=dict[str, int | float]))
    return lines


def plot(log: Path, picture: Path) -> Path:
    """Draw what a log says about the loss."""
    from matplotlib.figure import Figure  # takes a second, and is needed once

    lines = read_log(log)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, label in (("l1", "training, style known"), ("validation_l1", "validation, as used")):
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1.2)
    axes.set(xlabel="step", ylabel="L1 [standard deviations]", yscale="log", title="ACT")
    axes.grid(alpha=0.3, which="both")
    if axes.lines:
        axes.legend()
    figure.savefig(picture)
    return picture


def _drop_behind(path: Path, step: int) -> None:
    kept = [line for line in read_log(path) if line["step"] <= step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
