"""`headrace bench loop`: does learning from searches make searches shorter?

Collect with a heuristic, train both models, let a running server take them up, and search with them in environments
that nobody has seen, beside the heuristics. Everything stays in --work, and the same command goes on where it was
stopped: searches that are committed are not made again, nor is a training that has published.
"""

from __future__ import annotations

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
# Object strategy and goal strategy.
STRATEGIES = {
    "no_heuristic": ("no_heuristic", "random"),
    "nearest_first": ("nearest_first", "random"),
    "blocking_path": ("blocking_path", "random"),
    "ml": ("ml", "ml"),
    "ml_objects": ("ml", "random"),
    "ml_goals": ("blocking_path", "ml"),
}
Strategy = Literal["no_heuristic", "nearest_first", "blocking_path", "ml", "ml_objects", "ml_goals"]
_FILE_WIDTH = 140


@dataclass(frozen=True)
class LoopFlags:
    """Collect, train, publish, and measure planners that ask the models against heuristics, on unseen environments."""

    work: Path = Path("runs/loop")
    """Dataset, models and logs; the same command goes on from what is there."""
    searches: int = 2000
    """Searches to learn from, the same number of each level."""
    heldout: int = 100
    """Unseen environments of each level; every strategy searches in all of them."""
    levels: tuple[Level, ...] = ("easy", "medium", "hard")
    """Difficulties."""
    strategies: tuple[Strategy, ...] = get_args(Strategy)
    """What is compared; ml_objects and ml_goals use one model only."""
    max_pushes: int = 1000
    """Budget of one search [motion primitives], the same on every machine."""
    max_goals: int = 5
    """Goals that are tried for each movable in each state, by every strategy."""
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
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    with Loop(flags.work, progress) as loop:
        learned = [f"namo/learn_{level}" for level in flags.levels]
        each = -(-flags.searches // len(flags.levels))
        for level, stream in zip(flags.levels, learned, strict=True):
            loop.collect(stream, each, [*_search_words(flags, level, flags.seed), *_words("no_heuristic")])
        for what in ("object", "goal"):
            loop.train(what, learned, ["--epochs", str(flags.epochs)])
        streams: dict[tuple[str, str], str] = {}
        for level in flags.levels:
            for strategy in flags.strategies:
                streams[level, strategy] = f"namo/unseen_{level}_{strategy}"
                words = [*_search_words(flags, level, flags.seed + 1), *_words(strategy)]
                loop.collect(streams[level, strategy], flags.heldout, words, asks="ml" in strategy)
        results = loop_report.read(loop.data, streams, flags.heldout)
        trained = loop.trained()
    loop_report.check_versions(results, trained)
    figures = loop_report.figures(results)
    console.print(loop_report.level_table(results))
    console.print(table("headrace bench loop", figures))
    details = {"trained_on": trained, **loop_report.details(results)}
    if flags.json is not None:
        write_json(flags.json, figures, details)
    plot = loop_report.plot(results, flags.plot or flags.work / "loop.png")
    progress.print(f"plot: {plot}", highlight=False, soft_wrap=True)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def _search_words(flags: LoopFlags, level: str, seed: int) -> list[str]:
    budgets = ["--max-pushes", str(flags.max_pushes), "--max-goals-per-object", str(flags.max_goals)]
    where = ["--difficulty", level, "--seed", str(seed), "--workers", str(flags.workers)]
    # The clock ends no search, or a busy machine would find less.
    return [*where, *budgets, "--algorithm", "tree_idfs", "--search-timeout", "36000"]


def _words(strategy: str) -> list[str]:
    objects, goals = STRATEGIES[strategy]
    return ["--object-strategy", objects, "--goal-strategy", goals]


def _check(flags: LoopFlags) -> None:
    for name in ("searches", "heldout", "max_pushes", "max_goals", "workers", "epochs"):
        if getattr(flags, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{flag} {getattr(flags, name)}: expected at least 1")
    for name in ("levels", "strategies"):
        chosen = getattr(flags, name)
        if not chosen or len(set(chosen)) != len(chosen):
            raise ConfigurationError(f"--{name}: expected at least one, each once, found {' '.join(chosen) or 'none'}")
    if flags.seed < 0:
        raise ConfigurationError(f"--seed {flags.seed}: expected 0 or more")


if __name__ == "__main__":
    sys.exit(main())
