"""A collection on this machine while it runs: sink, producers, and perhaps server and trainers, as child processes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from deploy.collection_keys import ensure_keys
from deploy.processes import Program, ProgramError, run_unless, start, start_program, wait_inference, wait_ready
from deploy.roles import INFERENCE, SINK, Role, roles_of
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
        self.learning: list[Program] = []  # inference server and trainers, which run until they are stopped
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
        if self.topology.security is not None:
            ensure_keys(self.topology.security)
        addresses: dict[str, str] = {}
        for role in roles_of(self.topology, self.logs):
            if role.prepare is not None:
                run_unless(role.prepare.unless, role.prepare.words)
            for number in range(role.count):
                self._start_role(role, number, addresses)

    def _start_role(self, role: Role, number: int, addresses: dict[str, str]) -> None:
        name = role.name if role.count == 1 else f"{role.name}.{number}"
        words = role.words(addresses) + role.resume_words()
        if role.own_program:
            named = {"HEADRACE_NAME": name, **role.environment(addresses)}
            self.producers.append(start_program(name, words, self.logs, named))
            return
        if role.kind == "producers":
            words += ["--plain", "--json", str(self.logs / f"{name}.json")]
        program = start(name, words, self.logs, nice=role.nice)
        if role.kind == "sink":
            self._sink = program
            addresses[SINK], self._http = wait_ready(program)
        elif role.kind == "producers":
            self.producers.append(program)
        else:
            self.learning.append(program)
            if role.kind == "inference":
                addresses[INFERENCE] = wait_inference(program)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def refresh(self) -> None:
        """Ask the sink for its status. Raises ProgramError if a program has ended badly.

        status["programs"]: what server and trainers said last. status["page"]: where a browser can look, or nothing.
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
        self.status["page"] = f"http://{self._http}/" if self.topology.sink.flags.get("page", True) else ""
        self.status["programs"] = [{"name": each.name, "says": each.last_line()} for each in self.learning]

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
