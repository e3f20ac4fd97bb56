"""What the closed loop gained: tables, figures and a plot of searches in unseen environments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from deploy.bench.figures import Figure
from deploy.processes import ProgramError
from protocol.dataset_view import DatasetView
from protocol.errors import ModelError
from protocol.namo.results import SearchResult, Summary, search_result, solved_within

BAR = 0.6
WITHIN = (5, 10, 20, 50, 100, 200, 500)
HEURISTICS = ("no_heuristic", "nearest_first", "blocking_path", "blocking_path_few")
# (level, strategy) → its searches
Results = Mapping[tuple[str, str], list[SearchResult]]


def read(data: Path, streams: Mapping[tuple[str, str], str], searches: int) -> Results:
    """The first `searches` searches of each stream. Raises DatasetError."""
    names = {stream: key for key, stream in streams.items()}
    found: dict[tuple[str, str], list[SearchResult]] = {key: [] for key in streams}
    with DatasetView(data) as view:
        for episode in view.new_episodes():
            key = names.get(episode.shard.spec.name)
            if key is not None and episode.index < searches:
                result = search_result(episode.attributes())
                if result is not None:
                    found[key].append(result)
    missing = [streams[key] for key, results in found.items() if not results]
    if missing:
        raise ProgramError(f"{data}: no search ran in {', '.join(missing)}; look with: headrace inspect {data}")
    return found


def check_versions(results: Results, trained: Mapping[str, Mapping[str, str]]) -> None:
    """Every answer came from the trained weights. Raises ModelError."""
    for (level, strategy), searches in results.items():
        for search in searches:
            for name, version in search.versions:
                if version != trained[name]["version"]:
                    raise ModelError(
                        f"{level} {strategy}, environment {search.environment}: expected answers of {name} "
                        f"{trained[name]['version']}, found {version}; remove the work directory and measure again"
                    )


def figures(results: Results) -> list[Figure]:
    """Of each level: pushes of `ml` for each push of the best heuristic. No figure where a median is not finite."""
    made = []
    for level in dict.fromkeys(level for level, _ in results):
        ratio = push_ratio(results, level)
        if ratio is not None:
            bar = BAR if level == "hard" else None
            made.append(Figure(f"loop.push_ratio_{level}", ratio, "", bar, "at_most"))
    return made


def push_ratio(results: Results, level: str) -> float | None:
    """Median pushes to the solution with `ml` against the smallest of the heuristics; None: it cannot be told."""
    medians = [
        Summary.of(found).median_pushes for name in HEURISTICS if (found := results.get((level, name))) is not None
    ]
    mine = results.get((level, "ml"))
    if mine is None or not medians or not math.isfinite(min(medians)):
        return None
    return Summary.of(mine).median_pushes / min(medians)


def details(results: Results) -> dict[str, Any]:
    """What stands behind the figures; an infinite median is null."""
    rows = []
    for (level, strategy), found in results.items():
        summary = {name: value if math.isfinite(value) else None for name, value in asdict(Summary.of(found)).items()}
        within = {n: solved_within(found, n) for n in WITHIN}
        fallbacks = sum(result.fallbacks for result in found)
        searches = [(r.environment, r.solved, r.pushes, round(r.seconds, 3)) for r in found]
        row = {"level": level, "strategy": strategy, **summary, "solved_within_pushes": within, "fallbacks": fallbacks}
        rows.append({**row, "environment_solved_pushes_seconds": searches})
    return {"unseen": rows}


def level_table(results: Results) -> Table:
    """For people."""
    title = "unseen environments; pushes to the solution, ∞: not solved"
    made = Table("level", "strategy", "searches", "solved", "95 % interval", "median pushes", "median s", title=title)
    for pushes in WITHIN:
        made.add_column(f"≤{pushes}", justify="right")
    for (level, strategy), found in results.items():
        summary = Summary.of(found)
        share = (f"{summary.solved:.0%}", f"{summary.solved_low:.0%} {summary.solved_high:.0%}")
        pushes_s = (f"{summary.median_pushes:g}".replace("inf", "∞"), f"{summary.median_seconds:.2f}")
        within = [f"{solved_within(found, n):.0%}" for n in WITHIN]
        made.add_row(level, strategy, str(summary.searches), *share, *pushes_s, *within)
    return made


def plot(results: Results, path: Path) -> Path:
    """Share solved by pushes tried, one panel for each level. Returns the path."""
    from matplotlib.figure import Figure as Drawing  # takes half a second to import

    levels = list(dict.fromkeys(level for level, _ in results))
    drawing = Drawing(figsize=(4.5 * len(levels), 4.6), layout="constrained")
    panels = drawing.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for panel, level in zip(panels, levels, strict=True):
        most = max(r.pushes for (at, _), found in results.items() if at == level for r in found)
        for (at, strategy), found in results.items():
            if at == level:
                solved = sorted(r.pushes for r in found if r.solved)
                shares = [number / len(found) for number in range(len(solved) + 1)]
                panel.step([1, *solved, most], [*shares, shares[-1]], where="post", label=strategy,
                           linewidth=2.5 if strategy == "ml" else 1.2)  # fmt: skip
        panel.set(title=level, xlabel="pushes tried", xscale="log", ylim=(0, 1.02))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share solved")
    drawing.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    drawing.savefig(path, dpi=120)
    return path
