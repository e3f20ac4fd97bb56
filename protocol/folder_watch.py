"""Noticing new files below a folder without listing it: a name that appears or goes changes its folder's mtime.

Two things make an mtime say less than it seems to. Clocks tick: what happens in the same tick as a listing leaves the
mtime as it was, so a listing of a folder that changed a moment ago is made again. And a network file system may keep
old attributes for seconds, so everything is listed anew now and then.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from protocol.errors import DatasetError

# Linux stamps files with the time of the last timer interrupt, at most 10 ms ago.
_TICK_NS = 50_000_000
# Some file systems store whole seconds, FAT every other one.
_COARSE_TICK_NS = 2_500_000_000
_LIST_ANEW_S = 5.0


@dataclass
class _Listing:
    """A folder as it was listed. mtime_ns: -1 if that listing cannot be trusted to be all there is."""

    mtime_ns: int = -1
    files: frozenset[str] = frozenset()
    folders: set[str] = field(default_factory=set)


class FolderWatch:
    """The files below `root` whose names end in `suffix`. Links to folders are not followed."""

    def __init__(self, root: Path, suffix: str) -> None:
        """Raises DatasetError if there is no such folder."""
        self._root, self._suffix = str(root), suffix
        self._known: dict[str, _Listing] = {self._root: _Listing()}
        self._list_anew_at = 0.0
        if not root.is_dir():
            raise DatasetError(f"{root} is no directory; expected a dataset directory, as given to `headrace sink`")

    def changed(self) -> bool:
        """Look again; True if `files` may differ from what it was. Some microseconds a folder if nothing came.

        Raises DatasetError if `root` is gone.
        """
        now = time.monotonic()
        if now >= self._list_anew_at:
            self._list_anew_at = now + _LIST_ANEW_S
            for listing in self._known.values():
                listing.mtime_ns = -1
        stale = [folder for folder, listing in self._known.items() if self._mtime(folder) != listing.mtime_ns]
        changes = [self._list(folder) for folder in stale if folder in self._known]
        return any(changes)

    def files(self) -> list[Path]:
        """All files found, sorted."""
        return sorted(Path(folder, name) for folder, listing in self._known.items() for name in listing.files)

    def _mtime(self, folder: str) -> int:
        try:
            return os.stat(folder).st_mtime_ns
        except FileNotFoundError as error:
            if folder == self._root:
                why = "was the dataset moved, or its disk unmounted?"
                raise DatasetError(f"{folder} has disappeared; {why}") from error
            return -2  # never that of a listing: it will find that the folder is gone

    def _list(self, folder: str) -> bool:
        """List one folder, and those in it that are new; True if the files found are others than before."""
        old, began_ns = self._known[folder], time.time_ns()
        mtime_ns = self._mtime(folder)
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return self._forget(folder)
        files = frozenset(entry.name for entry in found if entry.name.endswith(self._suffix) and entry.is_file())
        folders = {entry.path for entry in found if entry.is_dir(follow_symlinks=False)}
        tick_ns = _COARSE_TICK_NS if mtime_ns % 1_000_000_000 == 0 else _TICK_NS
        self._known[folder] = _Listing(mtime_ns if mtime_ns < began_ns - tick_ns else -1, files, folders)
        changes = [files != old.files]
        changes += [self._forget(gone) for gone in old.folders - folders if gone in self._known]
        for new in folders - old.folders:
            self._known[new] = _Listing()
            changes.append(self._list(new))
        return any(changes)

    def _forget(self, folder: str) -> bool:
        listing = self._known.pop(folder)
        changes = [self._forget(below) for below in listing.folders if below in self._known]
        return bool(listing.files) or any(changes)
