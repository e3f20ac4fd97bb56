"""`headrace export namo`: searches as the files that the original collection script wrote.

    OUT/sequential_data_{hostname}/{hostname}_env_{index:06d}_results.pkl     one for each environment
    OUT/sequential_data_{hostname}/collection_summary_{hostname}.pkl
    OUT/sequential_data_{hostname}/summary_{hostname}.txt

The pickles hold dicts, lists, tuples, strings and numbers only. The folder appears whole, or not at all.
"""

from __future__ import annotations

import pickle
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError, DatasetError
from protocol.shard_view import EpisodeView
from sink.export.namo_records import environment_of, keep_minimum_length, record
from sink.export.namo_summary import Summary
from sink.namo_stream import choose_stream


@dataclass(frozen=True)
class ExportNamoFlags:
    """Write the searches of a dataset as the files of the original NAMO collection script."""

    data: Path
    """Dataset directory, as given to `headrace sink --data`; a sink may be writing to it."""
    out: Path
    """Directory for the folder sequential_data_HOSTNAME; made if it does not exist."""
    stream: str | None = None
    """Which stream; not needed if there is one whose name begins with namo/."""
    hostname: str = socket.gethostname()
    """The name in folder, files and episode ids."""
    filter_minimum_length: bool = False
    """Of each environment keep unsolved searches and the shortest plans only; also done if `produce` had this flag."""
    keep_all: bool = False
    """Keep all searches, also if `produce` had --filter-minimum-length."""
    include_discarded: bool = False
    """Also the searches that `headrace flag` discarded."""
    overwrite: bool = False
    """Replace a folder that is there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder and print its path. Raises ConfigurationError, DatasetError."""
    flags = tyro.cli(ExportNamoFlags, prog="headrace export namo", args=argv)
    if "/" in flags.hostname or not flags.hostname:
        raise ConfigurationError(f"--hostname {flags.hostname!r}: expected a name that can be part of a file's name")
    folder = flags.out / f"sequential_data_{flags.hostname}"
    if folder.exists() and not flags.overwrite:
        raise ConfigurationError(f"{folder} is there already; choose another --out, or replace it with --overwrite")
    with DatasetView(flags.data) as view:
        list(view.new_episodes())
        stream = choose_stream(view, flags.stream)
        found = view.episodes(stream) if flags.include_discarded else view.kept_episodes(stream)
        episodes = sorted(found, key=lambda episode: episode.index)
        if not episodes:
            raise DatasetError(f"{flags.data}: no search was committed yet, or all are discarded; try again later")
        summary = _write(flags, folder, episodes)
    sys.stdout.write(f"{folder}: {summary.environments} environments, {summary.kept} of {summary.before} searches\n")
    return 0


def _write(flags: ExportNamoFlags, folder: Path, episodes: Sequence[EpisodeView]) -> Summary:
    preparing = folder.with_name(f".{folder.name}.preparing")
    shutil.rmtree(preparing, ignore_errors=True)
    preparing.mkdir(parents=True)
    try:
        attributes = episodes[0].attributes()
        asked = bool(attributes.get("options", {}).get("filter_minimum_length", False))
        shortest = (flags.filter_minimum_length or asked) and not flags.keep_all
        summary = Summary(flags.hostname, shortest, attributes)
        for environment, group in _by_environment(episodes).items():
            results = _results(flags.hostname, environment, group, shortest)
            _dump(preparing / f"{results['env_id']}_results.pkl", results)
            summary.add(results)
        _dump(preparing / f"collection_summary_{flags.hostname}.pkl", summary.to_dict())
        (preparing / f"summary_{flags.hostname}.txt").write_text(summary.to_text())
        _put_in_place(preparing, folder)
    except BaseException:
        shutil.rmtree(preparing, ignore_errors=True)
        raise
    return summary


def _put_in_place(preparing: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    preparing.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _by_environment(episodes: Sequence[EpisodeView]) -> dict[int, list[EpisodeView]]:
    groups: dict[int, list[EpisodeView]] = {}
    for episode in episodes:
        groups.setdefault(environment_of(episode), []).append(episode)
    return groups


def _results(hostname: str, environment: int, group: Sequence[EpisodeView], shortest: bool) -> dict[str, Any]:
    env_id = f"{hostname}_env_{environment:06d}"
    records = [record(episode, env_id) for episode in group]
    kept = keep_minimum_length(records) if shortest else records
    return {
        "env_id": env_id,
        "success": True,
        "episodes_collected": len(kept),
        "episodes_before_filtering": len(records),
        "episodes_filtered_out": len(records) - len(kept),
        "processing_time": sum(each["search_time_ms"] or 0.0 for each in records) / 1000,
        "episode_results": kept,
    }


def _dump(path: Path, data: dict[str, Any]) -> None:
    with path.open("wb") as file:
        pickle.dump(data, file, protocol=4)
