"""One file describes a collection for every engine: data, producers, models that learn from the data, and resources."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deploy.kubernetes.settings import KubernetesSettings
from deploy.slurm.settings import SlurmSettings
from deploy.ssh.settings import SshSettings
from deploy.systemd.settings import SystemdSettings
from deploy.typos import check_keys
from protocol.errors import ConfigurationError
from protocol.keys import CLIENTS, check_name

Flags = dict[str, bool | int | float | str | list[str]]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")]
# Those of `headrace produce`.
SIMULATORS = ("robosuite", "namo", "replay")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process of a role may use; None: what the engine gives by default. time_limit: "HH:MM:SS"."""

    cpus: Annotated[int, Meta(ge=1)] | None = None
    memory_mib: Annotated[int, Meta(ge=1)] | None = None
    gpus: Annotated[int, Meta(ge=0)] = 0
    time_limit: Annotated[str, Meta(pattern=r"\A[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]\Z")] | None = None

    @property
    def seconds(self) -> int | None:
        """The time limit [s]."""
        if self.time_limit is None:
            return None
        hours, minutes, seconds = map(int, self.time_limit.split(":"))
        return hours * 3600 + minutes * 60 + seconds


class Producers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`headrace produce SIMULATOR`, or a program of your own that publishes; `count` of them, wherever there is room.

    workers: processes of each `headrace produce`. flags: its other flags by their names without dashes.
    program: a command; it finds the sink in HEADRACE_SINK, its key in HEADRACE_KEY.
    asks: the inference server of this file.
    """

    simulator: str | None = None
    workers: Annotated[int, Meta(ge=1, le=1024)] = 2
    key: str | None = None
    asks: bool = False
    flags: Flags = {}
    program: tuple[str, ...] = ()
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        if (self.simulator is None) == (not self.program):
            raise ValueError("expected either `simulator` or `program`, found both or neither")
        if self.simulator is not None and self.simulator not in SIMULATORS:
            known = ", ".join(SIMULATORS)
            raise ValueError(f"`simulator` {self.simulator!r}: expected one of {known}, or a `program` of your own")
        if self.program and self.flags:
            raise ValueError("`flags` are those of a simulator; give those of a program in `program`")

    @property
    def what(self) -> str:
        """The simulator, or the program."""
        return self.simulator or self.program[0]


class InferenceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace infer`: directory of published models (untrained ones are made if it is not there), its flags.

    keys: its keys directory, if that is not the sink's. The same key file of a producer is for both.
    """

    models: str
    keys: str | None = None
    flags: Flags = {}
    resources: Resources = Resources()


class Trainer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `headrace train WHAT --follow` on the data, which publishes for the inference server. nice: as in nice(1).

    It goes on from the checkpoint of the last run.
    """

    what: Literal["object", "goal"]
    nice: Annotated[int, Meta(ge=0, le=19)] = 5
    flags: Flags = {}
    resources: Resources = Resources()


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the data go, where the sink listens (port 0 chooses a free one), and the keys directory, if it has one."""

    data: str
    bind: str = "tcp://127.0.0.1:0"
    http: str = "127.0.0.1:0"
    memory_mib: Annotated[int, Meta(ge=1)] = 256
    shard_mib: Annotated[int, Meta(ge=1)] = 1024
    keys: str | None = None
    flags: Flags = {}
    resources: Resources = Resources()


class Security(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys directory of `headrace keys`, and the name of the key that producers use; made if they are not there."""

    keys: str
    client: str = "producers"

    def __post_init__(self) -> None:
        check_name(self.client)

    @property
    def client_key(self) -> str:
        """The file that producers read."""
        return str(Path(self.keys) / CLIENTS / f"{self.client}.key")


class Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder that all machines see: announcements, logs, and the record of what was started."""

    folder: str


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sink and its producers; perhaps an inference server for them, and trainers of its models.

    name: of the collection; that of the file if it is empty. slurm, ssh, systemd, kubernetes: what only that engine
    needs to know.
    """

    sink: SinkSettings
    producers: Annotated[tuple[Producers, ...], Meta(min_length=1)]
    name: Name | None = None
    inference: InferenceSettings | None = None
    trainers: tuple[Trainer, ...] = ()
    security: Security | None = None
    shared: Shared | None = None
    slurm: SlurmSettings = SlurmSettings()
    ssh: SshSettings = SshSettings()
    systemd: SystemdSettings = SystemdSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    def __post_init__(self) -> None:
        asking = [each.what for each in self.producers if each.asks]
        if self.inference is None and (asking or self.trainers):
            who = f"producers of {asking[0]} ask" if asking else f"the trainer of {self.trainers[0].what} publishes for"
            raise ValueError(f'{who} an inference server, and there is none; add [inference] with models = "DIRECTORY"')
        trained = [trainer.what for trainer in self.trainers]
        if len(set(trained)) != len(trained):
            raise ValueError(f"expected one trainer of each kind, found {', '.join(trained)}")
        if self.security is not None and self.sink.keys not in (None, self.security.keys):
            raise ValueError(f"[sink] has the keys {self.sink.keys}, [security] has {self.security.keys}; expected one")

    @property
    def keys(self) -> str | None:
        """The keys directory of the servers."""
        return self.security.keys if self.security is not None else self.sink.keys

    @property
    def folder(self) -> Path:
        """For announcements, logs and records: [shared], or a folder beside the dataset."""
        if self.shared is not None:
            return Path(self.shared.folder)
        data = Path(self.sink.data)
        return data.with_name(f"{data.name}.collection")

    def client_key(self, producers: Producers) -> str | None:
        """The key file of some producers."""
        return producers.key or (self.security.client_key if self.security is not None else None)


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
        found = tomllib.loads(path.read_text())
        check_keys(found, Topology)
        topology = msgspec.convert(found, Topology)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    except (msgspec.ValidationError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}; see deploy/topology.example.toml") from error
    return topology if topology.name else msgspec.structs.replace(topology, name=_name_of(path))


def _name_of(path: Path) -> str:
    return _NO_NAME.sub("_", path.stem).lstrip("_.-")[:63] or "collection"


def absolute(topology: Topology, base: Path) -> Topology:
    """The same with every path of its own absolute; those among `flags` are relative to where a program runs."""

    def place(text: str | None) -> str | None:
        return None if text is None else str(base / text)

    def placed(settings: Any, *names: str) -> Any:
        if settings is None:
            return None
        return msgspec.structs.replace(settings, **{name: place(getattr(settings, name)) for name in names})

    return msgspec.structs.replace(
        topology,
        sink=placed(topology.sink, "data", "keys"),
        inference=placed(topology.inference, "models", "keys"),
        producers=tuple(placed(each, "key") for each in topology.producers),
        security=placed(topology.security, "keys"),
        shared=placed(topology.shared, "folder"),
    )


def local_topology(flags: LocalFlags) -> Topology:
    """robosuite workers and a sink on this machine."""
    producers = Producers("robosuite", flags.workers, flags={"env": flags.env, "episodes": flags.episodes})
    return Topology(SinkSettings(str(flags.data)), (producers,), name=_name_of(flags.data))
