"""A collection on this machine while it runs: sink, producers, and perhaps server and trainers, as child processes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from deploy.processes import Program, ProgramError, make_models, start, start_inference, start_sink
from deploy.topology import Topology
from protocol.errors import ConfigurationError

_STATUS_TIMEOUT_S = 5.0


class LocalCollection:
    """Starts with `with`; leaving the block stops producers first, then the sink, which drains."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.data = Path(topology.sink.data)
        self.logs = self.data / "logs"
        self.producers: list[Program] = []
        self.trainers: list[Program] = []
        self.inference: Program | None = None
        self.status: dict[str, Any] = {"streams": {}, "producers": [], "problems": [], "warnings": []}
        self._sink: Program | None = None
        self._http = ""

    def __enter__(self) -> LocalCollection:
        """Raises ProgramError with the words of a program that does not start."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot write to the dataset directory {self.data}: {error.strerror}") from error
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        topology, asked = self.topology, None
        self._sink, self.endpoint, self._http = start_sink(self.data, self.logs, topology.sink.words())
        if topology.inference is not None:
            models = Path(topology.inference.models)
            make_models(models)
            self.inference, asked = start_inference(models, self.logs, topology.inference.words(topology.sink.keys))
            for trainer in topology.trainers:
                name = f"train-{trainer.what}"
                words = trainer.words(self.data, models, self.logs / name)
                self.trainers.append(start(name, words, self.logs, nice=trainer.nice))
        for number, producers in enumerate(topology.producers):
            words = [*producers.words(self.endpoint, asked), "--plain", "--json", str(self.stats_path(number))]
            self.producers.append(start(f"producers-{number}", words, self.logs))

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stats_path(self, number: int) -> Path:
        """Where the producers of entry `number` write their totals at the end."""
        return self.logs / f"producers-{number}.json"

    def refresh(self) -> None:
        """Ask the sink for its status. Raises ProgramError if a program has ended badly.

        status["programs"]: what server and trainers said last.
        """
        assert self._sink is not None
        if not self._sink.running:
            raise ProgramError(f"the sink ended: {self._sink.last_words()}")
        for program in self.learning:
            if not program.running:
                raise ProgramError(f"{program.name} ended: {program.last_words()} (the whole log is {program.log})")
        for program in self.producers:
            if not program.running and program.process.returncode:
                raise ProgramError(f"{program.last_words()} (the whole log is {program.log})")
        try:
            with urllib.request.urlopen(f"http://{self._http}/status", timeout=_STATUS_TIMEOUT_S) as answer:
                self.status = json.load(answer)
        except OSError as error:
            self.status["problems"] = [f"the sink does not answer on {self._http}: {error}"]
        self.status["programs"] = [{"name": each.name, "says": each.last_line()} for each in self.learning]

    @property
    def learning(self) -> list[Program]:
        """The inference server and the trainers, if there are any; they run until they are stopped."""
        return [*([self.inference] if self.inference is not None else []), *self.trainers]

    @property
    def finished(self) -> bool:
        """Every producer has met its goal."""
        return not any(program.running for program in self.producers)

    def stop(self) -> None:
        """Stop the producers, then trainers and server, then the sink."""
        for programs in (self.producers, self.learning):
            for program in programs:
                program.ask_to_stop()
            for program in programs:
                program.stop()
        if self._sink is not None:
            self._sink.stop()
