"""One file describes what runs on this machine: where the data go, producers, and models that learn from the data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.errors import ConfigurationError

# As trainers name it.
_CHECKPOINT = "checkpoint.safetensors"
Flags = dict[str, bool | int | float | str | list[str]]


class Producers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace produce` command: simulator, workers, key, and its other flags by their names without dashes.

    asks: the inference server of this file.
    """

    simulator: str
    workers: Annotated[int, Meta(ge=1, le=1024)] = 2
    key: str | None = None
    asks: bool = False
    flags: Flags = {}

    def words(self, endpoint: str, inference: str | None = None) -> list[str]:
        """The command's words after `headrace`. inference: the server's endpoint."""
        words = ["produce", self.simulator, "--sink", endpoint, "--workers", str(self.workers)]
        words += ["--key", self.key] if self.key is not None else []
        words += ["--inference", inference] if self.asks and inference is not None else []
        return [*words, *_flag_words(self.flags)]


class InferenceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace infer`: directory of published models (untrained ones are made if it is not there), its flags.

    keys: its keys directory, if that is not the sink's. The same key file of a producer is for both.
    """

    models: str
    keys: str | None = None
    flags: Flags = {}

    def words(self, keys: str | None = None) -> list[str]:
        """The server's flags but for --models. keys: the sink's."""
        chosen = self.keys or keys
        return [*(["--keys", chosen] if chosen is not None else []), *_flag_words(self.flags)]


class Trainer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace train WHAT --follow` on the data, which publishes for the inference server. nice: as in nice(1).

    It goes on from the checkpoint of the last run.
    """

    what: Literal["object", "goal"]
    nice: Annotated[int, Meta(ge=0, le=19)] = 5
    flags: Flags = {}

    def words(self, data: Path, models: Path, out: Path) -> list[str]:
        """The command's words after `headrace`."""
        where = ["--data", str(data), "--publish", str(models), "--out", str(out)]
        resume = ["--resume"] if (out / _CHECKPOINT).exists() else []
        return ["train", self.what, *where, "--follow", *resume, *_flag_words(self.flags)]


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the data go, where the sink listens (port 0 chooses a free one), and the keys directory, if it has one."""

    data: str
    bind: str = "tcp://127.0.0.1:0"
    http: str = "127.0.0.1:0"
    memory_mib: Annotated[int, Meta(ge=1)] = 256
    shard_mib: Annotated[int, Meta(ge=1)] = 1024
    keys: str | None = None

    def words(self) -> list[str]:
        """The sink's flags but for --data."""
        sizes = ["--memory-mib", str(self.memory_mib), "--shard-mib", str(self.shard_mib)]
        keys = ["--keys", self.keys] if self.keys is not None else []
        return ["--bind", self.bind, "--http", self.http, *sizes, *keys]


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sink and its producers; perhaps an inference server for them, and trainers of its models."""

    sink: SinkSettings
    producers: Annotated[tuple[Producers, ...], Meta(min_length=1)]
    inference: InferenceSettings | None = None
    trainers: tuple[Trainer, ...] = ()

    def __post_init__(self) -> None:
        asking = [each.simulator for each in self.producers if each.asks]
        if self.inference is None and (asking or self.trainers):
            who = f"producers of {asking[0]} ask" if asking else f"the trainer of {self.trainers[0].what} publishes for"
            raise ValueError(f'{who} an inference server, and there is none; add [inference] with models = "DIRECTORY"')
        trained = [trainer.what for trainer in self.trainers]
        if len(set(trained)) != len(trained):
            raise ValueError(f"expected one trainer of each kind, found {', '.join(trained)}")


def _flag_words(flags: Flags) -> list[str]:
    words: list[str] = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


@dataclass(frozen=True)
class LocalFlags:
    """Flags that make a topology without a file."""

    data: Path
    env: str
    episodes: int
    workers: int


def read_topology(path: Path) -> Topology:
    """Read a TOML file. Raises ConfigurationError that names the place."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Topology)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {error}; see deploy/topology.example.toml") from error


def local_topology(flags: LocalFlags) -> Topology:
    """robosuite workers and a sink on this machine."""
    producers = Producers("robosuite", flags.workers, flags={"env": flags.env, "episodes": flags.episodes})
    return Topology(SinkSettings(str(flags.data)), (producers,))
