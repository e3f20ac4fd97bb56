"""One file describes a collection on this machine: where the data go, and which producers run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.errors import ConfigurationError


class Producers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace produce` command: simulator, workers, key, and its other flags by their names without dashes."""

    simulator: str
    workers: Annotated[int, Meta(ge=1, le=1024)] = 2
    key: str | None = None
    flags: dict[str, bool | int | float | str | list[str]] = {}

    def words(self, endpoint: str) -> list[str]:
        """The command's words after `headrace`."""
        words = ["produce", self.simulator, "--sink", endpoint, "--workers", str(self.workers)]
        words += ["--key", self.key] if self.key is not None else []
        for name, value in self.flags.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        return words


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
    """A sink and its producers."""

    sink: SinkSettings
    producers: Annotated[tuple[Producers, ...], Meta(min_length=1)]


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
