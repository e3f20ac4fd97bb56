"""What a training run says while it runs: a progress bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trainer.namo.searches import Seen


class Teller:
    """Used with `with`. total: steps that there will be, None if nobody knows."""

    def __init__(self, console: Console, name: str, total: int | None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console, self._name = console, name
        self._progress = Progress(*columns, TextColumn("{task.fields[loss]}"), console=console, transient=True)
        self._bar = self._progress.add_task(name, total=total, loss="")
        self._live = console.is_terminal
        self._waited_for = ""

    def __enter__(self) -> Teller:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def waiting(self, why: str) -> None:
        """For more data; said once, until something else happens."""
        if why != self._waited_for:
            self._waited_for = why
            self._say(f"waiting: {why}")

    def reading(self, searches: int) -> None:
        """Another search was read."""
        self._progress.update(self._bar, loss=f"read {searches} searches")

    def read(self, seen: Seen, training: int, validation: int, what: str) -> None:
        """New searches were read."""
        found = f"{seen.searches} searches, {seen.solved} solved with pushes"
        damaged = f"; {seen.damaged} are damaged and left out (headrace verify names them)" if seen.damaged else ""
        discarded = f"; {seen.discarded} are discarded" if seen.discarded else ""
        self._say(f"read {found}: {training} {what} for training, {validation} for validation{damaged}{discarded}")

    def withdrew(self, searches: int, examples: int, what: str) -> None:
        """Searches that had been read were discarded."""
        self._say(f"{searches} searches were discarded; {examples} {what} of theirs were taken out")

    def stepped(self, step: int, loss: float) -> None:
        """One step was done."""
        self._waited_for = ""
        self._progress.update(self._bar, completed=step, loss=f"loss {loss:.4f}")

    def evaluated(self, step: int, losses: dict[str, float], best: bool, measures: dict[str, float]) -> None:
        """A pass is over."""
        told = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses.items()]
        told += [f"{name} {value:.3f}" for name, value in measures.items() if "random" not in name]
        self._say(f"step {step}: {', '.join(told)}{'; best so far' if best else ''}")

    def published(self, name: str, version: str, loss: float) -> None:
        """New weights can be served."""
        self._say(f"published {name} {version}, validation loss {loss:.4f}")

    def _say(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", highlight=False, soft_wrap=True)
