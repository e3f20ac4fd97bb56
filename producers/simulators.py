"""What `headrace produce` runs, simulators and recordings: flags, checks, and where workers begin."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers.address import WAIT_S, Address
from producers.link import chosen_key
from producers.namo import entry as namo_entry
from producers.namo import flags as namo_flags
from producers.namo.flags import NamoOptions
from producers.namo.models import inference_key_file
from producers.replay import entry as replay_entry
from producers.replay.options import ReplayOptions
from producers.robosuite import entry as robosuite_entry
from producers.robosuite import graphics
from producers.robosuite.options import RobosuiteOptions
from producers.supervisor import Entry
from protocol.errors import ConfigurationError
from protocol.messages import Goal
from protocol.namo.queries import QUERY_PROTOCOL


@dataclass(frozen=True)
class RobosuiteFlags(RobosuiteOptions):
    __doc__ = RobosuiteOptions.__doc__

    wait_s: float = WAIT_S
    """How long a file is waited for in which a server says where it is [s]; 0: it must be there."""
    plain: bool = False
    """Print a line every 10 s, not a live display."""
    json: Path | None = None
    """Write the workers' totals to this file at the end."""


@dataclass(frozen=True)
class NamoFlags(NamoOptions):
    __doc__ = NamoOptions.__doc__

    wait_s: float = WAIT_S
    """How long a file is waited for in which a server says where it is [s]; 0: it must be there."""
    plain: bool = False
    """Print a line every 10 s, not a live display."""
    json: Path | None = None
    """Write the workers' totals to this file at the end."""


@dataclass(frozen=True)
class ReplayFlags(ReplayOptions):
    __doc__ = ReplayOptions.__doc__

    wait_s: float = WAIT_S
    """How long a file is waited for in which the sink says where it is [s]; 0: it must be there."""
    plain: bool = False
    """Print a line every 10 s, not a live display."""
    json: Path | None = None
    """Write the workers' totals to this file at the end."""


@dataclass(frozen=True)
class Simulator:
    """flags: what the command takes. options: the part of it that workers get. check: raises ConfigurationError.

    goal: what the sink is told to hand out. prepare: sets what worker processes need in their environment.
    models: where the inference servers are that workers ask.
    """

    flags: type[Any]
    options: type[Any]
    check: Callable[[Any], None]
    goal: Callable[[Any], Goal]
    entry: Entry
    prepare: Callable[[Any], None]
    models: Callable[[Any], tuple[Address, ...]]

    def options_of(self, flags: Any) -> Any:
        """The workers' part of the flags."""
        return self.options(**{name: getattr(flags, name) for name in self.options.__dataclass_fields__})


def _check_robosuite(flags: RobosuiteOptions) -> None:
    if flags.workers < 1:
        raise ConfigurationError(f"--workers {flags.workers}: expected at least 1")
    if flags.episodes is not None and flags.episodes < 1:
        raise ConfigurationError(f"--episodes {flags.episodes}: expected at least 1")
    if flags.end_idx is not None and flags.end_idx <= flags.start_idx:
        raise ConfigurationError(f"--end-idx {flags.end_idx} must be above --start-idx {flags.start_idx}")
    if not 1 <= flags.jpeg_quality <= 100:
        raise ConfigurationError(f"--jpeg-quality {flags.jpeg_quality}: expected 1 to 100")


def _choose_graphics(flags: RobosuiteOptions) -> None:
    os.environ.update(graphics.environment_variables(graphics.choose_backend(flags.gl)))


def _namo_goal(options: NamoOptions) -> Goal:
    from producers.namo.sources import collection_goal  # reads scenes; `--help` needs none of that

    return collection_goal(options)


def _namo_models(flags: NamoFlags) -> tuple[Address, ...]:
    if not flags.uses_models:
        return ()
    file = inference_key_file(flags)
    key = None if file is None else chosen_key(file)
    return tuple(Address(text, "inference", QUERY_PROTOCOL, key, flags.wait_s) for text in flags.inference)


def _check_replay(flags: ReplayOptions) -> None:
    if flags.workers < 1:
        raise ConfigurationError(f"--workers {flags.workers}: expected at least 1")
    if not 1 <= flags.jpeg_quality <= 100:
        raise ConfigurationError(f"--jpeg-quality {flags.jpeg_quality}: expected 1 to 100")
    if flags.rate_hz is not None and not flags.rate_hz > 0:
        raise ConfigurationError(f"--rate-hz {flags.rate_hz}: expected more than 0")
    _replay_goal(flags)


def _replay_goal(options: ReplayOptions) -> Goal:
    from producers.replay.formats import open_recording  # reads the recording; `--help` needs none of that
    from producers.replay.worker import replay_spec

    recording = open_recording(options.source)
    replay_spec(recording, options)
    end = len(recording) if options.end_idx is None else options.end_idx
    if not 0 <= options.start_idx < end <= len(recording):
        raise ConfigurationError(
            f"--start-idx {options.start_idx}, --end-idx {end}: expected a range of the {len(recording)} episodes of "
            f"{options.source}"
        )
    return Goal(options.start_idx, end)


def _one_thread_each(_: object) -> None:
    # Workers are one core each; numpy's own threads would only take turns with them.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


SIMULATORS: Mapping[str, Simulator] = {
    "robosuite": Simulator(
        flags=RobosuiteFlags,
        options=RobosuiteOptions,
        check=_check_robosuite,
        goal=lambda options: options.goal,
        entry=robosuite_entry.run,
        prepare=_choose_graphics,
        models=lambda _: (),
    ),
    "namo": Simulator(
        flags=NamoFlags,
        options=NamoOptions,
        check=namo_flags.check,
        goal=_namo_goal,
        entry=namo_entry.run,
        prepare=_one_thread_each,
        models=_namo_models,
    ),
    "replay": Simulator(
        flags=ReplayFlags,
        options=ReplayOptions,
        check=_check_replay,
        goal=_replay_goal,
        entry=replay_entry.run,
        prepare=_one_thread_each,
        models=lambda _: (),
    ),
}
