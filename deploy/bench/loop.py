"""`headrace bench loop`: does learning from searches make searches shorter?

Collect with a heuristic, train both models, let a running server take them up, and search with them in environments
that nobody has seen, beside the heuristics. Everything stays in --work, and the same command goes on where it was
stopped: searches that are committed are not made again, nor is a training that has published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro
from rich.console import Console

from deploy.bench import loop_report
from deploy.bench.figures import table, write_json
from deploy.bench.loop_run import Loop
from protocol.errors import ConfigurationError

Level = Literal["easy", "medium", "hard"]
# Object strategy, goal strategy, and whether --few-goals counts.
STRATEGIES = {
    "no_heuristic": ("no_heuristic", "random", False),
    "nearest_first": ("nearest_first", "random", False),
    "blocking_path": ("blocking_path", "random", False),
    "blocking_path_few": ("blocking_path", "random", True),
    "ml": ("ml", "ml", True),
    "ml_objects": ("ml", "random", False),
    "ml_goals": ("blocking_path", "ml", True),
}
Strategy = Literal[
    "no_heuristic", "nearest_first", "blocking_path", "blocking_path_few", "ml", "ml_objects", "ml_goals"
]
_FILE_WIDTH = 140


@dataclass(frozen=True)
class LoopFlags:
    """Collect, train, publish, and measure planners that ask the models against heuristics, on unseen environments."""

    work: Path = Path("runs/loop")
    """Dataset, models and logs; the same command goes on from what is there."""
    searches: tuple[int, ...] = (700, 800, 500)
    """Searches to learn from, a number for each of --levels; each teacher makes the same share of them."""
    teachers: tuple[Literal["no_heuristic", "nearest_first", "blocking_path"], ...] = ("no_heuristic", "blocking_path")
    """Strategies of the searches to learn from."""
    heldout: int = 100
    """Unseen environments of each level; every strategy searches in all of them."""
    levels: tuple[Level, ...] = ("easy", "medium", "hard")
    """Difficulties."""
    strategies: tuple[Strategy, ...] = get_args(Strategy)
    """What is compared. ml_objects and ml_goals use one model only, the latter with blocking_path; blocking_path_few
    shows what fewer goals do without a model."""
    max_pushes: int = 1000
    """Budget of one search [motion primitives], the same on every machine."""
    max_goals: int = 5
    """Goals that are tried for each movable in each state."""
    few_goals: int = 1
    """The same where goals come from a model, whose first ones are better than random ones, and blocking_path_few."""
    workers: int = 2
    """Worker processes."""
    epochs: int = 100
    """Most rounds of each training."""
    seed: int = 1
    """Of the environments to learn from; the unseen ones have the seed after it."""
    json: Path | None = None
    """Write the figures to this file."""
    plot: Path | None = None
    """Write the plot to this PNG; by default loop.png in --work."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, report; returns 1 if a bar is not reached. Raises HeadraceError."""
    flags = tyro.cli(LoopFlags, prog="headrace bench loop", args=argv)
    _check(flags)
    _same_settings(flags)
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with Loop(flags.work, progress) as loop:
        learned = []
        for level, searches in zip(flags.levels, flags.searches, strict=True):
            for teacher in flags.teachers:
                learned.append(f"namo/learn_{level}_{teacher}")
                words = [*_search_words(flags, level, flags.seed), *_strategy_words(flags, teacher)]
                loop.collect(learned[-1], -(-searches // len(flags.teachers)), words)
        for what in ("object", "goal"):
            loop.train(what, learned, ["--epochs", str(flags.epochs)])
        streams: dict[tuple[str, str], str] = {}
        for level in flags.levels:
            for strategy in flags.strategies:
                goals = f"_{flags.few_goals}" if STRATEGIES[strategy][2] else ""
                streams[level, strategy] = f"namo/unseen_{level}_{strategy}{goals}"
                words = [*_search_words(flags, level, flags.seed + 1), *_strategy_words(flags, strategy)]
                loop.collect(streams[level, strategy], flags.heldout, words, asks="ml" in strategy)
        results = loop_report.read(loop.data, streams, flags.heldout)
        trained = loop.trained()
    loop_report.check_versions(results, trained)
    figures = loop_report.figures(results)
    console.print(loop_report.level_table(results))
    console.print(table("headrace bench loop", figures))
    if not figures:
        why = "it needs ml and a heuristic with which at least half of the searches are solved"
        progress.print(f"no figure: {why}", highlight=False, soft_wrap=True)
    details = {"trained_on": trained, **loop_report.details(results)}
    if flags.json is not None:
        write_json(flags.json, figures, details)
    plot = loop_report.plot(results, flags.plot or flags.work / "loop.png")
    progress.print(f"plot: {plot}", highlight=False, soft_wrap=True)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def _search_words(flags: LoopFlags, level: str, seed: int) -> list[str]:
    where = ["--difficulty", level, "--seed", str(seed), "--workers", str(flags.workers)]
    # The clock ends no search, or a busy machine would find less.
    return [*where, "--max-pushes", str(flags.max_pushes), "--algorithm", "tree_idfs", "--search-timeout", "36000"]


def _strategy_words(flags: LoopFlags, strategy: str) -> list[str]:
    objects, goals, few = STRATEGIES[strategy]
    count = flags.few_goals if few else flags.max_goals
    return ["--object-strategy", objects, "--goal-strategy", goals, "--max-goals-per-object", str(count)]


def _same_settings(flags: LoopFlags) -> None:
    """What a search is a function of is kept in --work: other searches must not be taken for these."""
    path = flags.work / "settings.json"
    settings = {name: getattr(flags, name) for name in ("max_pushes", "max_goals", "few_goals", "seed")}
    try:
        if path.exists():
            found = json.loads(path.read_text())
            if found != settings:
                raise ConfigurationError(
                    f"--work {flags.work}: expected searches with {settings}, found {found} in {path}; "
                    "give the same flags, or another --work"
                )
        else:
            flags.work.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings) + "\n")
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read or written: {error}") from error


def _check(flags: LoopFlags) -> None:
    for name in ("heldout", "max_pushes", "max_goals", "few_goals", "workers", "epochs"):
        if getattr(flags, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{flag} {getattr(flags, name)}: expected at least 1")
    for name in ("levels", "strategies", "teachers"):
        chosen = getattr(flags, name)
        if not chosen or len(set(chosen)) != len(chosen):
            raise ConfigurationError(f"--{name}: expected at least one, each once, found {' '.join(chosen) or 'none'}")
    if len(flags.searches) != len(flags.levels) or min(flags.searches) < 1:
        raise ConfigurationError(
            f"--searches {' '.join(map(str, flags.searches))}: expected a number, at least 1, for each of "
            f"--levels {' '.join(flags.levels)}"
        )
    if flags.seed < 0:
        raise ConfigurationError(f"--seed {flags.seed}: expected 0 or more")


if __name__ == "__main__":
    sys.exit(main())
