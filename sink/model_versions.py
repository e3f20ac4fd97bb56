"""What searches came to by the versions of the models they asked, in the order in which the versions came into use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, DatasetError
from protocol.namo.results import SearchResult, Summary, search_result
from protocol.shard_view import EpisodeView

ALONE = "no model"
_INCHES = (1.6, 1.1)  # width of a figure: for all, and for each version


@dataclass(frozen=True)
class Group:
    """Searches that asked the same versions."""

    name: str
    summary: Summary
    median_pushes: float


def write(view: DatasetView, stream: str | None, path: Path) -> list[Group]:
    """Draw them as a PNG. Raises ConfigurationError, DatasetError."""
    if path.suffix.lower() != ".png":
        raise ConfigurationError(f"--by-model-version {path}: expected a file that ends in .png")
    episodes = list(view.new_episodes())
    if stream is not None and stream not in view.streams:
        raise ConfigurationError(
            f"{view.root} has no stream {stream!r}; it has: {', '.join(view.streams) or 'none yet'}"
        )
    chosen = [each for each in episodes if each.shard.spec.name == stream or stream is None]
    groups = groups_of(_in_order(chosen))
    if not groups:
        raise DatasetError(f"{view.root} has no searches of `headrace produce namo` that ran")
    _draw(groups, path)
    return groups


def groups_of(results: Iterable[SearchResult]) -> list[Group]:
    """By the versions that answered, searches without any answer first; results: in the order of time."""
    found: dict[tuple[tuple[str, str], ...], list[SearchResult]] = {(): []}
    for result in results:
        found.setdefault(result.versions, []).append(result)
    return [
        Group(_name(versions), Summary.of(group), median(result.pushes for result in group))
        for versions, group in found.items()
        if group
    ]


def _in_order(episodes: Sequence[EpisodeView]) -> list[SearchResult]:
    found = []
    for episode in sorted(episodes, key=lambda each: int(each.row["ended_ns"])):
        attributes = episode.attributes()
        if "stop_reason" in attributes and "ml" in attributes:  # robosuite episodes have neither
            result = search_result(attributes)
            if result is not None:
                found.append(result)
    return found


def _name(versions: tuple[tuple[str, str], ...]) -> str:
    """Names of models with their running numbers, e.g. `object 3, goal 12`."""
    told = [f"{name} {version.split('-')[0].lstrip('0') or '0'}" for name, version in versions]
    return "\n".join(told) or ALONE


def _draw(groups: Sequence[Group], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigurationError("plots need matplotlib: pip install 'headrace[trainer]'") from error

    figure = Figure(figsize=(max(5.0, _INCHES[0] + _INCHES[1] * len(groups)), 5.5), layout="constrained")
    solved, pushes = figure.subplots(2, 1, sharex=True)
    at = range(len(groups))
    summaries = [group.summary for group in groups]
    shares = [100 * each.solved for each in summaries]
    # The interval of a share of 1 ends at 1, but for the last bit.
    low = [max(0.0, 100 * (each.solved - each.solved_low)) for each in summaries]
    high = [max(0.0, 100 * (each.solved_high - each.solved)) for each in summaries]
    solved.errorbar(at, shares, yerr=(low, high), fmt="o", capsize=4)
    solved.set(ylabel="solved [%], 95 % interval", ylim=(-4, 108))
    pushes.plot(at, [group.median_pushes for group in groups], "o-")
    pushes.set(ylabel="median pushes tried", ylim=(0, None))
    pushes.set_xticks(list(at), [f"{group.name}\nn = {group.summary.searches}" for group in groups], fontsize=8)
    for axes in (solved, pushes):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ConfigurationError(f"--by-model-version {path}: cannot write it: {error.strerror}") from error
