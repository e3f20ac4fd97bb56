"""Make, list, verify and roll back the weights that an inference server serves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro
from tyro.conf import Positional, subcommand

from protocol.errors import ConfigurationError, ModelError
from protocol.published import check_name, current_version, model_names, open_published, version_names
from trainer.version_files import rollback


@dataclass(frozen=True)
class InitFlags:
    """Publish an untrained object model and an untrained goal model, so that everything runs before training."""

    models: Path
    """Directory of published models; made if it is not there."""
    object_name: str = "object"
    """Name of the object model on the server."""
    goal_name: str = "goal"
    """Name of the goal model on the server."""
    seed: int = 0
    """Seed of the weights."""


@dataclass(frozen=True)
class ListFlags:
    """List models and their versions; the current one is marked. Exit status 1 if a current one cannot be used."""

    models: Path
    """Directory of published models."""
    json: bool = False
    """One JSON object: model → its current version, all versions, and the manifest of the current one."""


@dataclass(frozen=True)
class RollbackFlags:
    """Point a model to its version before the current one; servers take it at once."""

    models: Path
    """Directory of published models."""
    name: Positional[str]
    """Which model."""
    to: str | None = None
    """Point to this version instead, older or newer."""


@dataclass(frozen=True)
class VerifyFlags:
    """Check manifests, sizes, checksums and tensors; exit status 1 and a line for each fault."""

    models: Path
    """Directory of published models."""
    name: str | None = None
    """Only this model."""
    all: bool = False
    """All versions, not only the current ones."""


Flags = (
    Annotated[InitFlags, subcommand("init")]
    | Annotated[ListFlags, subcommand("list")]
    | Annotated[RollbackFlags, subcommand("rollback")]
    | Annotated[VerifyFlags, subcommand("verify")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of it. Raises ConfigurationError, ModelError."""
    flags = tyro.cli(Flags, prog="headrace models", args=argv, description=__doc__)
    match flags:
        case InitFlags():
            return _init(flags)
        case ListFlags():
            return _list(flags)
        case RollbackFlags():
            _say(f"{flags.name} is now {rollback(flags.models, flags.name, flags.to)}")
            return 0
        case VerifyFlags():
            return _verify(flags)
    raise AssertionError(flags)


def _init(flags: InitFlags) -> int:
    # torch takes a second to import, and the other commands do without it.
    from trainer.namo.architectures import ARCHITECTURES
    from trainer.publish import publish, untrained

    if flags.object_name == flags.goal_name:
        raise ConfigurationError(f"expected two names, found {flags.object_name!r} for both models")
    if flags.seed < 0:
        raise ConfigurationError(f"expected --seed 0 or more, found {flags.seed}")
    wanted = {"ObjectModel": flags.object_name, "GoalModel": flags.goal_name}
    for name in wanted.values():
        if (flags.models / check_name(name)).exists():
            raise ConfigurationError(f"{flags.models / name} is there already; choose another name, or remove it first")
    for architecture, name in wanted.items():
        network = untrained(ARCHITECTURES[architecture], flags.seed)
        made = publish(network, name, flags.models, f"nothing: untrained, seed {flags.seed}").manifest
        _say(f"published {name} {made.version}: {architecture}, {made.parameters} parameters, untrained")
    return 0


def _list(flags: ListFlags) -> int:
    found = {name: _described(flags.models, name) for name in model_names(flags.models)}
    if flags.json:
        _say(json.dumps(found, indent=1))
    for name, told in found.items():
        if told["fault"]:
            sys.stderr.write(f"headrace models list: {told['fault']}\n")
        if not flags.json:
            manifest = told["manifest"] or {}
            what = f"{manifest['architecture']}, {manifest['parameters']} parameters" if manifest else "cannot be used"
            _say(f"{name}: {what}")
            _say(*(f"  {'→' if version == told['current'] else ' '} {version}" for version in told["versions"]))
    if not found and not flags.json:
        _say(f"{flags.models} has no models yet: headrace models init --models {flags.models}")
    return 1 if any(told["fault"] for told in found.values()) else 0


def _described(models: Path, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {"current": None, "versions": version_names(models, name), "manifest": None, "fault": None}
    try:
        told["current"] = current_version(models, name)
        told["manifest"] = msgspec.to_builtins(open_published(models, name, told["current"]).manifest)
    except ModelError as error:
        told["fault"] = str(error)
    return told


def _verify(flags: VerifyFlags) -> int:
    names = model_names(flags.models) if flags.name is None else [flags.name]
    faults = checked = 0
    for name in names:
        for version in [None, *(version_names(flags.models, name) if flags.all else ())]:
            checked += 1
            try:
                open_published(flags.models, name, version)
            except ModelError as error:
                faults += 1
                _say(str(error))
    if not names:
        raise ModelError(f"{flags.models}: expected models, found none; make some: headrace models init")
    _say(f"{checked} checked, {faults} with faults")
    return 1 if faults else 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
