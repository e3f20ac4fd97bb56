"""Which stream of a dataset holds the searches that someone means."""

from __future__ import annotations

from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError


def choose_stream(view: DatasetView, wanted: str | None) -> str:
    """The stream to read. Raises ConfigurationError unless there is exactly one that can be meant."""
    known = view.streams
    found = [wanted] if wanted in known else [name for name in known if name.startswith("namo/")]
    if len(found) == 1 and wanted in (None, found[0]):
        return found[0]
    listed = ", ".join(known) or "none yet"
    asked = f"no stream {wanted!r}" if wanted is not None else f"{len(found)} streams namo/…; name one with --stream"
    raise ConfigurationError(f"{view.root} has {asked}; it has: {listed}")
