"""`headrace flag`: discard and flag episodes, take it back, and list what was said."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.flag_log import FlagLog
from protocol.flags import MAX_FLAGGED, FlagRecord
from sink.flagging import Word, add_flag
from sink.inspect import PLAIN_WIDTH
from sink.inspect_tables import local_time

Action = Literal["list", "discard", "keep", "flag", "unflag"]
_COLOURS = {"discard": "red", "flag": "yellow"}


@dataclass(frozen=True)
class FlagFlags:
    """Say of committed episodes that they are discarded, or flagged, and why; or list what was said.

    Discarded episodes stay in the dataset. Training and exports leave them out until `keep`. Flagged ones are used;
    somebody should look at them. Nothing is given out again: the collection goes on as before. A sink may be running.
    """

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Dataset directory, as given to `headrace sink --data`."""
    action: Annotated[Action, tyro.conf.Positional] = "list"
    """discard, and keep, which takes it back; flag and unflag; or list what counts now."""
    index: tuple[int, ...] = ()
    """Indices of episodes, as `headrace inspect --episodes` lists them. Up to 4096 of them count together, or none."""
    reason: str = ""
    """Why: at most 500 characters. Needed to discard and to flag."""
    stream: str | None = None
    """Which stream; not needed if the dataset has only one. With list: only this one."""
    who: str = ""
    """Who says so; by default user@host."""
    history: bool = False
    """With list: every word that was ever said, not only what counts now."""
    json: bool = False
    """Print JSON: the lines that were added, or what is listed by stream."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0. Raises ConfigurationError, DatasetError, DiskFullError."""
    flags = tyro.cli(FlagFlags, prog="headrace flag", args=argv)
    if flags.action == "list":
        if flags.index or flags.reason or flags.who:
            raise ConfigurationError("--index, --reason and --who need one of discard, keep, flag and unflag after DIR")
        return _list(flags)
    if not flags.index:
        raise ConfigurationError(f"expected the episodes to {flags.action}: --index N [N ...]")
    if flags.history:
        raise ConfigurationError("--history belongs to list")
    with DatasetView(flags.data) as view:
        (stream,) = _streams(view, flags.stream, only_one=True)
    wanted = sorted(set(flags.index))
    for start in range(0, len(wanted), MAX_FLAGGED):
        word = Word(flags.action, wanted[start : start + MAX_FLAGGED], flags.reason, flags.who)
        record = add_flag(flags.data, stream, word)
        _say(msgspec.json.encode(record).decode() if flags.json else f"{stream}: {_sentence(record)}")
    return 0


def _list(flags: FlagFlags) -> int:
    with DatasetView(flags.data) as view:
        logs = {name: view.flags(name) for name in _streams(view, flags.stream, only_one=False)}
    if flags.json:
        _say(json.dumps({name: _to_json(log, flags.history) for name, log in logs.items()}, indent=2))
        return 0
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    said = {name: log for name, log in logs.items() if log.records}
    for name, log in said.items():
        console.print(_table(name, log.records if flags.history else _current(log)))
    if not said:
        console.print(f"{flags.data}: nothing was said of any episode")
    return 0


def _current(log: FlagLog) -> list[FlagRecord]:
    """What counts now, one record for each index and word."""
    return [
        msgspec.structs.replace(record, indices=(index,))
        for index, standing in log.said().items()
        for record in (standing.discarded, standing.flagged)
        if record is not None
    ]


def _to_json(log: FlagLog, history: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"discarded": log.discarded(), "flagged": log.flagged()}
    records = log.records if history else _current(log)
    return {**said, "lines": len(log.records), "history" if history else "said": msgspec.to_builtins(records)}


def _table(stream: str, records: Sequence[FlagRecord]) -> Table:
    table = Table(title=stream, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("index", justify="right", overflow="fold", max_width=40)
    for name in ("", "reason", "who", "when"):
        table.add_column(name, overflow="fold")
    for record in records:
        what = Text(record.what, style=_COLOURS.get(record.what, ""))
        words = (Text(record.reason), Text(record.who), local_time(record.time_ns))
        table.add_row(" ".join(map(str, record.indices)), what, *words)
    return table


def _sentence(record: FlagRecord) -> str:
    done = {"discard": "discarded", "keep": "kept", "flag": "flagged", "unflag": "no longer flagged"}[record.what]
    listed = ", ".join(map(str, record.indices[:10])) + (", …" if len(record.indices) > 10 else "")
    return f"{done}: {listed} ({len(record.indices)} in all)"


def _streams(view: DatasetView, wanted: str | None, only_one: bool) -> list[str]:
    """The streams that are meant. Raises ConfigurationError."""
    known = view.streams
    listed = ", ".join(known) or "none yet"
    if wanted is not None and wanted not in known:
        raise ConfigurationError(f"{view.root} has no stream {wanted!r}; it has: {listed}")
    if only_one and wanted is None and len(known) != 1:
        raise ConfigurationError(f"{view.root} has {len(known)} streams; name one with --stream: {listed}")
    return known if wanted is None else [wanted]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
