"""The flags of `headrace produce namo`. Imports no simulator, so that `--help` is instant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from producers.namo.options import Algorithm, GoalStrategy, ObjectStrategy, OnError, SearchOptions
from protocol.errors import ConfigurationError
from protocol.messages import Goal
from protocol.namo.episodes import MAX_PLAN_STEPS
from protocol.namo.queries import MAX_DEADLINE_S, MAX_SAMPLES
from protocol.namo.scene import MAX_MOVABLES

DEFAULT_GENERATED = 100


@dataclass(frozen=True)
class NamoOptions:
    """Plan pushes in scenes with movable obstacles until the robot's goal opens, and publish every search to a sink."""

    sink: str = "tcp://127.0.0.1:5555"
    """Endpoint of the sink, or the path of the file that it writes with --announce."""
    key: Path | None = None
    """Key file that the operator of a sink with keys gave you; by default the one that HEADRACE_KEY names, if set."""
    workers: int = 2
    """Worker processes, one core each. One and many make the same episodes."""

    xml_dir: Path | None = None
    """Scenes: a directory of the original's MJCF files, or a set of `headrace namo scenes`."""
    template: Literal["two_rooms", "corridor", "four_rooms", "maze", "all"] = "all"
    """Without --xml-dir scenes are generated: the floor plan; all: each in turn."""
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """Of generated scenes."""
    seed: int = 0
    """Base seed of generated scenes and of every search; the same seed gives the same plans."""
    start_idx: int = 0
    """First environment."""
    end_idx: int | None = None
    """End of the environments, excluded; by default all of --xml-dir, or 100 generated ones."""
    episodes_per_env: int = 1
    """Searches in each environment, each with random numbers of its own."""

    algorithm: Algorithm = "idfs"
    """idfs: iterative deepening; tree_idfs: the same plans, no push twice; random_sampling: one random rollout."""
    object_strategy: ObjectStrategy = "no_heuristic"
    """Which movable is tried first; ml asks --ml-object-model."""
    goal_strategy: GoalStrategy = "random"
    """Where movables are pushed to; ml asks --ml-goal-model."""
    max_depth: int = 5
    """Most pushes of a plan."""
    max_goals_per_object: int = 5
    """Targets that are tried for each movable in each state."""
    max_terminal_checks: int = 5000
    """Most states that are tested for an open goal, in one search."""
    max_pushes: int | None = None
    """Most motion primitives in one search; no bound by default. It is the same on every machine, a time-out is not."""
    search_timeout: float = 300.0
    """Most time of one search [s]; it ends within one motion primitive."""
    epsilon: float = 0.0
    """Share of choices that are made at random instead of by the strategy, 0 to 1."""
    legacy_theta: bool = False
    """Targets of --goal-strategy random turn as the original's did: by the angle of the direction they are moved in."""

    inference: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Inference server for the ml strategies, e.g. tcp://127.0.0.1:5556, or the path of the file that it writes with
    --announce; give it again for one to ask if that fails."""
    inference_key: Path | None = None
    """Key file for the inference servers; by default that for the sink, and `none` for servers without keys."""
    ml_deadline: float = 1.0
    """How long one answer is waited for [s]."""
    ml_object_model: str | None = None
    """Name of the object model on the server."""
    ml_goal_model: str | None = None
    """Name of the goal model on the server."""
    ml_samples: int = 32
    """Samples that the goal model draws for one answer."""
    ml_device: Literal["cuda", "cpu"] | None = None
    """Where the models must run. The server decides that for everyone (headrace infer --device); with this flag an
    answer from another device ends the collection with an error."""
    ml_on_error: OnError = "heuristic"
    """Without an answer: use a heuristic, skip the state, or end the search as failed. Each is counted and stored."""

    physics: Literal["planar", "free"] = "planar"
    """planar: boxes slide and turn on the floor, fast. free: the original's free joints, contacts and integrator."""
    teleport: bool = False
    """Put the robot at its edge point instead of driving there, as the original did."""
    drive_to_goal: bool = False
    """A plan counts only if the robot then drives to its goal."""
    smooth: bool = False
    """Leave out pushes that the plan does not need."""
    refine: bool = False
    """Replace the targets of a plan by where the movables really went, if it still works."""
    filter_minimum_length: bool = False
    """Mark the stream so that `headrace export namo` keeps, of each environment, failures and shortest plans only. The
    dataset itself keeps every search."""

    stream: str | None = None
    """Stream name; by default namo/ and the scenes, e.g. namo/all_medium."""
    max_movables: int = 20
    """Movables that the stream's columns have room for; scenes with more are recorded as failed."""
    jpeg_quality: int = 90
    """JPEG quality, 1 to 100."""
    nice: int = 5
    """Added to the workers' niceness, so that a sink and a trainer on the same machine go first."""
    verbose: bool = False
    """Say the result of every search."""

    @property
    def stream_name(self) -> str:
        """The stream that is published. What gives an index another meaning gives the stream another name."""
        if self.stream is not None:
            return self.stream
        if self.xml_dir is not None:
            scenes = re.sub(r"[^A-Za-z0-9_-]+", "_", self.xml_dir.resolve().name).strip("_-") or "scenes"
        else:
            scenes = f"{self.template}_{self.difficulty}"
        seed = f"_seed{self.seed}" if self.seed else ""
        return f"namo/{scenes}{seed}" + (f"_x{self.episodes_per_env}" if self.episodes_per_env > 1 else "")

    @property
    def uses_models(self) -> bool:
        """Some strategy asks the inference server."""
        return "ml" in (self.object_strategy, self.goal_strategy)

    @property
    def search(self) -> SearchOptions:
        """What a planner is told. Raises ConfigurationError."""
        names = SearchOptions.__dataclass_fields__.keys() - {"search_timeout_s"}
        return SearchOptions(**{name: getattr(self, name) for name in names}, search_timeout_s=self.search_timeout)

    def goal(self, environments: int | None) -> Goal:
        """What the sink is told to hand out. environments: how many there are; None if they are generated."""
        end = self.end_idx
        if end is None:
            end = self.start_idx + DEFAULT_GENERATED if environments is None else environments
        return Goal(self.start_idx * self.episodes_per_env, end * self.episodes_per_env, None)


def check(options: NamoOptions) -> None:
    """One sentence for the first flag that cannot be meant. Raises ConfigurationError."""
    _check_range(options)
    at_least_one = ("workers", "episodes_per_env", "max_depth", "max_goals_per_object", "max_terminal_checks")
    for name in (*at_least_one, "ml_samples", "max_movables"):
        if getattr(options, name) < 1:
            raise ConfigurationError(f"{_flag(name)} {getattr(options, name)}: expected at least 1")
    if options.max_pushes is not None and options.max_pushes < 1:
        raise ConfigurationError(f"--max-pushes {options.max_pushes}: expected at least 1")
    if options.max_depth > MAX_PLAN_STEPS:
        raise ConfigurationError(f"--max-depth {options.max_depth}: expected at most {MAX_PLAN_STEPS}")
    if options.max_movables > MAX_MOVABLES:
        raise ConfigurationError(f"--max-movables {options.max_movables}: expected at most {MAX_MOVABLES}")
    if options.search_timeout <= 0:
        raise ConfigurationError(f"--search-timeout {options.search_timeout:g}: expected more than 0 seconds")
    if not 0 < options.ml_deadline <= MAX_DEADLINE_S:
        expected = f"expected more than 0 and at most {MAX_DEADLINE_S:g} seconds"
        raise ConfigurationError(f"--ml-deadline {options.ml_deadline:g}: {expected}")
    if not 0 <= options.epsilon <= 1:
        raise ConfigurationError(f"--epsilon {options.epsilon:g}: expected 0 to 1")
    if not 1 <= options.jpeg_quality <= 100:
        raise ConfigurationError(f"--jpeg-quality {options.jpeg_quality}: expected 1 to 100")
    if options.ml_samples > MAX_SAMPLES:
        raise ConfigurationError(f"--ml-samples {options.ml_samples}: expected at most {MAX_SAMPLES}")
    _check_models(options)


def _check_range(options: NamoOptions) -> None:
    if options.start_idx < 0:
        raise ConfigurationError(f"--start-idx {options.start_idx}: expected at least 0")
    if options.end_idx is not None and options.end_idx <= options.start_idx:
        raise ConfigurationError(f"--end-idx {options.end_idx} must be above --start-idx {options.start_idx}")
    if options.seed < 0:
        raise ConfigurationError(f"--seed {options.seed}: expected at least 0")


def _check_models(options: NamoOptions) -> None:
    for kind in ("object", "goal"):
        strategy, model = getattr(options, f"{kind}_strategy"), getattr(options, f"ml_{kind}_model")
        if strategy == "ml" and model is None:
            why = f"--{kind}-strategy ml needs --ml-{kind}-model NAME"
            raise ConfigurationError(f"{why}, the name of a model on the server that `headrace infer` runs")
    if options.uses_models and not options.inference:
        raise ConfigurationError("the ml strategies need a server: give --inference tcp://HOST:5556 (`headrace infer`)")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
