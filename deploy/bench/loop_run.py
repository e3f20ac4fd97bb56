"""The programs of one closed loop: a sink, an inference server, and one after the other producers and trainings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from deploy.processes import Program, ProgramError, make_models, start, start_inference, start_sink
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.published import open_published

_POLL_S = 1.0
_SAY_S = 60.0
MODELS = ("object", "goal")
UNTRAINED = "nothing: untrained"
# The server shares the machine with the planners that ask it.
_DEADLINE_S = 30


class Loop:
    """Used with `with`, which stops what runs."""

    def __init__(self, work: Path, console: Console) -> None:
        self.data, self.models, self._logs = work / "data", work / "models", work / "logs"
        self._console, self._stack = console, ExitStack()

    def __enter__(self) -> Loop:
        """Raises ProgramError with the words of a program that does not start."""
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"--work {self._logs.parent}: cannot write there: {error.strerror}") from error
        with ExitStack() as stack:
            self._sink, self._endpoint, _ = start_sink(self.data, self._logs, ["--shard-mib", "64"])
            stack.callback(self._sink.stop)
            make_models(self.models)
            self._server, self._inference = start_inference(self.models, self._logs)
            stack.callback(self._server.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def collect(self, stream: str, searches: int, words: Sequence[str], asks: bool = False) -> None:
        """Searches 0 … `searches` of a stream; those that are committed stay as they are. asks: the models."""
        where = ["--sink", self._endpoint, "--stream", stream, "--end-idx", str(searches)]
        models = [word for what in MODELS for word in (f"--ml-{what}-model", what)]
        more = ["--inference", self._inference, *models, "--ml-deadline", str(_DEADLINE_S)] if asks else []
        name = stream.replace("/", "_")
        self._finish(start(name, ["produce", "namo", *where, *words, *more, "--plain"], self._logs), stream, searches)

    def train(self, what: str, streams: Sequence[str], words: Sequence[str]) -> None:
        """Unless it has published; the server takes up the new version while it runs."""
        if self._trained_on(what).startswith(UNTRAINED):
            which = [word for stream in streams for word in ("--stream", stream)]
            where = ["--data", str(self.data), "--publish", str(self.models), "--out", str(self._logs.parent / what)]
            self._finish(start(f"train_{what}", ["train", what, *where, *which, *words], self._logs), f"train {what}")

    def trained(self) -> dict[str, dict[str, str]]:
        """Version and data of each model."""
        return {
            what: {"version": open_published(self.models, what).manifest.version, "data": self._trained_on(what)}
            for what in MODELS
        }

    def _trained_on(self, what: str) -> str:
        return open_published(self.models, what).manifest.trained_on

    def _finish(self, program: Program, what: str, searches: int | None = None) -> None:
        """Wait for a program, with a bar or a line now and then. Raises ProgramError if one ends badly."""
        began, said = time.monotonic(), time.monotonic()
        with ExitStack() as stack, Progress(console=self._console, transient=True, disable=not self._live) as bar:
            stack.callback(program.stop)
            task = bar.add_task(what, total=searches)
            while program.running:
                for other in (self._sink, self._server):
                    if not other.running:
                        raise ProgramError(f"{other.name} ended: {other.last_words()}")
                time.sleep(_POLL_S)
                bar.update(task, completed=self._committed(what) if searches else 0)
                if not self._live and time.monotonic() - said > _SAY_S:
                    said = time.monotonic()
                    self._say(f"{what}: {self._committed(what)} of {searches}" if searches else f"{what}: goes on")
        if program.process.returncode:
            raise ProgramError(f"{what}: {program.last_words()} (the whole log is {program.log})")
        self._say(f"{what}: done in {time.monotonic() - began:.0f} s")

    @property
    def _live(self) -> bool:
        return self._console.is_terminal

    def _committed(self, stream: str) -> int:
        with DatasetView(self.data) as view:
            return sum(len(shard) for shard in view.shards.values() if shard.spec.name == stream)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)
