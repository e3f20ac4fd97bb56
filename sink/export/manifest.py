"""`manifest.json`: what an export holds, from which snapshot of which dataset; and how far a killed one had come.

    {"headrace_export": 1, "format", "options", "selection", "order", "dataset_uuid", "spec",
     "snapshot": {"shards": {path: committed rows}, "flags": lines}, "complete", "files": {path: bytes},
     "totals": {"episodes", "steps", "frames", "bytes"},
     "episodes": [{"position", "index", …, "files": {path: bytes}, "frames", "details"}],
     "planned": [{"position", "index", …}], "discarded": [{"index", …}]}

It holds no times, hosts or paths of a machine, so that equal exports have equal manifests. It is written before the
first episode is, with all of them as planned; while they are written, those that are done stand in `.progress.jsonl`,
one line each, added when its files are whole. So what a killed export was to hold is known, whatever was committed
since.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import ConfigurationError
from protocol.spec import StreamSpec
from sink.export.choice import Chosen
from sink.export.plan import Done, Entry, Plan, Written, are_there
from sink.export.whole_file import whole_file

MANIFEST, PROGRESS = "manifest.json", ".progress.jsonl"
VERSION = 1
# What makes two exports the same one.
_IDENTITY = ("format", "options", "selection", "order", "dataset_uuid", "spec")
_SAID = {"order": "--follow", "dataset_uuid": "dataset", "spec": "stream spec"}


@dataclass(frozen=True)
class Identity:
    """What was asked, of which dataset. options: the format's flags. order: `index`, or `commit` with --follow."""

    format: str
    options: dict[str, Any]
    selection: dict[str, Any]
    order: str
    dataset_uuid: str
    spec: StreamSpec

    def to_json(self) -> dict[str, Any]:
        """For the manifest, and to compare with one: as JSON has it, lists and no tuples."""
        made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({n: getattr(self, n) for n in _IDENTITY}))
        return made


class Manifest:
    """The manifest of one folder, with its progress file."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        """Reads what is there. Raises ConfigurationError if that is another export, or no export at all."""
        self._folder, self._identity = folder, identity
        self.chosen: Chosen | None = None
        self.snapshot: dict[str, Any] | None = None
        self.complete = False
        self.files: dict[str, int] = {}
        self.done: dict[int, Done] = {}
        found = read_manifest(folder)
        if found is None:
            _check_empty(folder)
        else:
            self._check_same(found)
            self._take(found)

    def _take(self, found: dict[str, Any]) -> None:
        self.snapshot, self.complete = found["snapshot"], found["complete"]
        written = [_done(row) for row in [*found["episodes"], *_lines(self._folder / PROGRESS)]]
        self.files = found["files"]
        # Once there is what was made of parts, the parts are not missed.
        finished = self.complete and are_there(self._folder, self.files)
        self.complete = finished
        self.done = {done.entry.position: done for done in written if done.is_there(self._folder, finished)}
        entries = [done.entry for done in written] + [Entry(**row) for row in found["planned"]]
        by_position = {entry.position: entry for entry in entries}
        discarded = [Entry(**row) for row in found["discarded"]]
        self.chosen = Chosen.read(found["snapshot"], [by_position[n] for n in range(len(by_position))], discarded)

    @property
    def begun(self) -> bool:
        """An earlier run has chosen what is written."""
        return self.chosen is not None

    def missing(self, plan: Plan) -> list[Entry]:
        """What is not written, or was and is not there any more."""
        return [entry for entry in plan.entries if entry.position not in self.done]

    def is_whole(self, plan: Plan) -> bool:
        """All of the plan is written."""
        return not self.missing(plan)

    def add(self, done: Done) -> None:
        """Remember an episode that is whole. What a power cut takes of this is written again."""
        self.done[done.entry.position] = done
        with (self._folder / PROGRESS).open("a") as file:
            file.write(json.dumps(_row(done)) + "\n")

    def write(self, chosen: Chosen, shared: Sequence[str] | None) -> None:
        """Write the manifest; it holds what the progress file held.

        shared: the files that belong to all episodes, once the export is complete; None before.
        """
        complete = shared is not None
        self.files = {name: (self._folder / name).stat().st_size for name in shared or ()}
        self.chosen, self.snapshot, self.complete = chosen, chosen.snapshot, complete
        done = [self.done[entry.position] for entry in chosen.entries if entry.position in self.done]
        planned = [entry for entry in chosen.entries if entry.position not in self.done]
        document = {
            "headrace_export": VERSION,
            **self._identity.to_json(),
            "snapshot": self.snapshot,
            "complete": complete,
            "files": self.files,
            "totals": totals(done),
            "episodes": [_row(each) for each in done],
            "planned": [msgspec.to_builtins(entry) for entry in planned],
            "discarded": [msgspec.to_builtins(entry) for entry in chosen.discarded],
        }
        with whole_file(self._folder / MANIFEST) as path:
            path.write_text(json.dumps(document, indent=1) + "\n")
        (self._folder / PROGRESS).unlink(missing_ok=True)

    def _check_same(self, found: dict[str, Any]) -> None:
        ours = self._identity.to_json()
        for name in _IDENTITY:
            if found[name] == ours[name]:
                continue
            what, before, now = _SAID.get(name, name), found[name], ours[name]
            if isinstance(before, dict) and isinstance(now, dict):
                what = next(key for key in {**before, **now} if before.get(key) != now.get(key))
                before, now = before.get(what), now.get(what)
            if name == "order":
                before, now = before == "commit", now == "commit"
            raise ConfigurationError(
                f"{self._folder} holds another export: {what} was {_short(before)} there and is {_short(now)} now; "
                "choose another --out, or remove that folder"
            )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an export; None if there is none. Raises ConfigurationError."""
    path = folder / MANIFEST
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        version = found["headrace_export"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is no manifest of `headrace export`; choose another --out") from error
    if version != VERSION:
        raise ConfigurationError(f"{path}: version {version}; this release writes {VERSION}; choose another --out")
    return found


def totals(done: Sequence[Done]) -> dict[str, int]:
    """Sums over episodes: episodes, steps, frames (of all cameras), bytes of their own files."""
    return {
        "episodes": len(done),
        "steps": sum(each.entry.steps for each in done),
        "frames": sum(each.written.frames for each in done),
        "bytes": sum({name: size for each in done for name, size in each.sizes.items()}.values()),
    }


def _row(done: Done) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(done.entry)
    return {**row, "files": done.sizes, "frames": done.written.frames, "details": done.written.details}


def _done(row: dict[str, Any]) -> Done:
    row = dict(row)
    sizes, frames, details = (row.pop(name) for name in ("files", "frames", "details"))
    return Done(Entry(**row), Written(tuple(sizes), frames, details), sizes)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; a kill may have cut the last one."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _check_empty(folder: Path) -> None:
    left = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if left:
        raise ConfigurationError(f"{folder} is not empty ({left[0]}) and no export; choose another --out")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
