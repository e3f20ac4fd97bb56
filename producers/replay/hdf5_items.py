"""The datasets of an HDF5 file that came from outside."""

from __future__ import annotations

from typing import Any

import h5py

from protocol.errors import EpisodeError


def datasets(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    """Name → dataset of everything below a group, links not followed.

    Raises EpisodeError for one whose bytes are in another file: that could be any file of this machine.
    """
    found: list[tuple[str, h5py.Dataset]] = []

    def note(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise EpisodeError(f"{group.file.filename}: {item.name} keeps its data in another file, which is not read")
        found.append((name, item))

    group.visititems(note)
    return found
