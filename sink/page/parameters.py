"""What a browser may ask for, with limits on everything; a bad parameter is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import HeadraceError
from protocol.messages import Outcome

MOST_LISTED = 100
_LISTED = 24
_MOST_SKIPPED = 100_000
_MOST_INDEX = 2**62
_MOST_TEXT = 300
OUTCOMES = {outcome.name.lower(): outcome for outcome in Outcome}
MARKS = ("any", "flagged", "unflagged", "discarded", "kept")


class BadParameterError(HeadraceError):
    """The address bar says something that makes no sense."""


@dataclass(frozen=True)
class Filter:
    """Which episodes are listed. None: any. version: a model's, as the page names them. mark: one of MARKS.

    Listed are `count` that match, after `skip` newer ones.
    """

    stream: str | None
    outcome: Outcome | None
    version: str | None
    producer: str | None
    first: int | None
    last: int | None
    mark: str
    skip: int
    count: int

    @staticmethod
    def of(query: Mapping[str, str]) -> Filter:
        """Raises BadParameterError."""
        outcome = text(query, "outcome")
        if outcome is not None and outcome not in OUTCOMES:
            raise BadParameterError(f"outcome={outcome}: expected one of {', '.join(OUTCOMES)}")
        mark = text(query, "mark") or "any"
        if mark not in MARKS:
            raise BadParameterError(f"mark={mark}: expected one of {', '.join(MARKS)}")
        return Filter(
            stream=text(query, "stream"),
            outcome=OUTCOMES[outcome] if outcome is not None else None,
            version=text(query, "version"),
            producer=text(query, "producer"),
            first=optional_number(query, "first", _MOST_INDEX),
            last=optional_number(query, "last", _MOST_INDEX),
            mark=mark,
            skip=optional_number(query, "skip", _MOST_SKIPPED) or 0,
            count=min(optional_number(query, "count", 10**6) or _LISTED, MOST_LISTED),
        )


def text(query: Mapping[str, str], name: str) -> str | None:
    """A text of at most 300 characters; None if it is empty or not given. Raises BadParameterError."""
    value = query.get(name) or None
    if value is not None and len(value) > _MOST_TEXT:
        raise BadParameterError(f"{name}: expected at most {_MOST_TEXT} characters, found {len(value)}")
    return value


def required_text(query: Mapping[str, str], name: str) -> str:
    """As `text`, and given. Raises BadParameterError."""
    value = text(query, name)
    if value is None:
        raise BadParameterError(f"{name} is missing")
    return value


def optional_number(query: Mapping[str, str], name: str, most: int) -> int | None:
    """A whole number from 0 to `most`; None if it is not given. Raises BadParameterError."""
    value = text(query, name)
    return None if value is None else number(value, name, most)


def required_index(query: Mapping[str, str]) -> int:
    """The index of an episode. Raises BadParameterError."""
    return number(required_text(query, "index"), "index", _MOST_INDEX)


def number(value: str, name: str, most: int = _MOST_INDEX) -> int:
    """A whole number from 0 to `most`. Raises BadParameterError."""
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and int(value) <= most):
        raise BadParameterError(f"{name}={value[:40]}: expected a whole number from 0 to {most}")
    return int(value)
