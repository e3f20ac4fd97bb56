"""The programs of a collection, as every engine starts them: what, how many, with what, and after whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from deploy.topology import Flags, InferenceSettings, Producers, Resources, SinkSettings, Topology, Trainer
from protocol.endpoint import is_loopback

Kind = Literal["sink", "inference", "trainer", "producers"]
SINK, INFERENCE = "sink", "inference"
# As trainers name it.
_CHECKPOINT = "checkpoint.safetensors"
_SINK_CPUS = _SERVER_CPUS = 2


@dataclass(frozen=True)
class Preparation:
    """Run `headrace WORDS` before a role starts, unless the path is there."""

    words: tuple[str, ...]
    unless: Path


@dataclass(frozen=True)
class Role:
    """One program, `count` times.

    command: words after `headrace`, or all words of a program of the user's own. announces: the name under which it can
    be found, for others to wait for. finds: (flag, such a name) of those that it speaks to; a program of the user's own
    finds them, and its key, in its environment. resumes: with this file, `--resume` is added. nice: as in nice(1).
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    resources: Resources
    count: int = 1
    own_program: bool = False
    announces: str | None = None
    finds: tuple[tuple[str, str], ...] = ()
    key: str | None = None
    prepare: Preparation | None = None
    resumes: Path | None = None
    nice: int = 0

    def words(self, addresses: Mapping[str, str]) -> list[str]:
        """The command with what it speaks to. addresses: endpoint or announcement file, by name."""
        if self.own_program:
            return list(self.command)
        words = list(self.command)
        for flag, name in self.finds:
            words += [flag, addresses[name]]
        return words + (["--key", self.key] if self.key is not None else [])

    def resume_words(self) -> list[str]:
        """What has to be added if there is something to go on from, at this moment."""
        return ["--resume"] if self.resumes is not None and self.resumes.exists() else []

    def environment(self, addresses: Mapping[str, str]) -> dict[str, str]:
        """What a program of the user's own finds in its environment; empty for ours."""
        if not self.own_program:
            return {}
        found = {f"HEADRACE_{name.upper()}": addresses[name] for _, name in self.finds}
        return found | ({"HEADRACE_KEY": self.key} if self.key is not None else {})


def roles_of(topology: Topology, logs: Path) -> list[Role]:
    """In the order in which they are started; stopping goes the other way.

    logs: trainers keep their checkpoints there.
    """
    found = [_sink(topology.sink, topology.keys, _shown_on_the_page(topology, logs))]
    if topology.inference is not None:
        found.append(_inference(topology.inference, topology))
        found += [_trainer(each, topology, logs) for each in topology.trainers]
    names = [f"producers-{number}" for number in range(len(topology.producers))]
    return found + [_producers(*pair, topology) for pair in zip(names, topology.producers, strict=True)]


def _shown_on_the_page(topology: Topology, logs: Path) -> list[str]:
    """Flags of the sink for what its page shows besides the dataset: trainers, a server at a fixed port beside it."""
    words = ["--trainer", *(str(logs / f"train-{trainer.what}") for trainer in topology.trainers)]
    words = words if topology.trainers else []
    http = topology.inference.flags.get("http") if topology.inference is not None else None
    beside = isinstance(http, str) and http != "None" and not http.endswith(":0") and is_loopback(f"tcp://{http}")
    return words + (["--inference-http", str(http)] if beside else [])


def _sink(sink: SinkSettings, keys: str | None, page: Sequence[str]) -> Role:
    words = ["sink", "--data", sink.data, "--bind", sink.bind, "--http", sink.http]
    words += ["--memory-mib", str(sink.memory_mib), "--shard-mib", str(sink.shard_mib)]
    words += ["--keys", keys] if keys is not None else []
    words += page if "page" not in sink.flags or sink.flags["page"] else []
    resources = _with_cpus(sink.resources, _SINK_CPUS)
    return Role(SINK, "sink", (*words, *_flag_words(sink.flags)), resources, announces=SINK)


def _inference(inference: InferenceSettings, topology: Topology) -> Role:
    flags = {name.replace("_", "-"): value for name, value in inference.flags.items()}
    words = ["infer", "--models", inference.models]
    words += [] if "bind" in flags else ["--bind", _beside(topology.sink.bind)]
    words += [] if "http" in flags else ["--http", "None"]
    keys = inference.keys or topology.keys
    words += ["--keys", keys] if keys is not None else []
    return Role(
        INFERENCE,
        "inference",
        (*words, *_flag_words(flags)),
        _with_cpus(inference.resources, _SERVER_CPUS),
        announces=INFERENCE,
        prepare=Preparation(("models", "init", "--models", inference.models), Path(inference.models)),
    )


def _trainer(trainer: Trainer, topology: Topology, logs: Path) -> Role:
    assert topology.inference is not None
    name = f"train-{trainer.what}"
    words = ["train", trainer.what, "--data", topology.sink.data, "--publish", topology.inference.models]
    words += ["--out", str(logs / name), "--follow", *_flag_words(trainer.flags)]
    resources = _with_cpus(trainer.resources, _SERVER_CPUS)
    return Role(name, "trainer", tuple(words), resources, resumes=logs / name / _CHECKPOINT, nice=trainer.nice)


def _producers(name: str, producers: Producers, topology: Topology) -> Role:
    own = bool(producers.program)
    words = ["produce", producers.what, "--workers", str(producers.workers), *_flag_words(producers.flags)]
    finds = [("--sink", SINK), *([("--inference", INFERENCE)] if producers.asks else [])]
    key = topology.client_key(producers)
    served = topology.inference if producers.asks else None
    if served is not None and key is not None and (served.keys or topology.keys):
        words += ["--inference-key", key]
    return Role(
        name,
        "producers",
        producers.program if own else tuple(words),
        _with_cpus(producers.resources, 1 if own else producers.workers),
        producers.count,
        own_program=own,
        finds=tuple(finds),
        key=key,
    )


def _with_cpus(resources: Resources, cpus: int) -> Resources:
    return msgspec.structs.replace(resources, cpus=resources.cpus or cpus)


def _beside(bind: str) -> str:
    """A free port of the interface on which the sink listens; ipc endpoints are for one machine."""
    host = bind.removeprefix("tcp://").rpartition(":")[0] if bind.startswith("tcp://") else "127.0.0.1"
    return f"tcp://{host}:0"


def _flag_words(flags: Flags) -> Iterator[str]:
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", *(map(str, value) if isinstance(value, list) else [str(value)]))
