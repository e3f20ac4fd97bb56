"""Which columns of a stream are written, and under which names of files."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import ConfigurationError
from protocol.spec import StreamSpec


def chosen_columns(spec: StreamSpec, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns to write, all if none is wanted. Raises ConfigurationError for one that is not there, or twice."""
    known = [column.name for column in spec.columns]
    unknown = [name for name in wanted if name not in known]
    if unknown or len(set(wanted)) != len(wanted):
        what = f"no column {unknown[0]!r}" if unknown else "each column once only"
        raise ConfigurationError(f"stream {spec.name!r} has {what}; it has: {', '.join(known) or 'none'}")
    return tuple(wanted) or tuple(known)
