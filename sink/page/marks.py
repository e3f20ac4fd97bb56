"""Flags of episodes on the page: what is said of one, and saying something."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from protocol.flag_log import FlagLog
from protocol.flags import FlagRecord, Standing, What
from sink.flagging import Word, add_flag
from sink.page.catalogue import Catalogue, UnknownEpisodeError
from sink.page.parameters import BadParameterError

_MOST_HISTORY = 50


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser sends."""

    stream: str
    index: int
    what: What
    reason: str = ""


def marks(standing: Standing) -> list[str]:
    """In words, for a list."""
    words = {"flagged": standing.flagged, "discarded": standing.discarded}
    return [word for word, record in words.items() if record is not None]


def described(flags: FlagLog, index: int) -> dict[str, Any]:
    """{flagged, discarded: who said so, why and when, or null; history: all that was said, the newest first}."""
    standing = flags.of(index)
    history = [record for record in reversed(flags.records) if index in record.indices][:_MOST_HISTORY]
    return {
        "flagged": standing.flagged and _word(standing.flagged),
        "discarded": standing.discarded and _word(standing.discarded),
        "history": [_word(record) for record in history],
    }


def _word(record: FlagRecord) -> dict[str, Any]:
    return {"what": record.what, "reason": record.reason, "who": record.who, "time_ns": record.time_ns}


def say(catalogue: Catalogue, body: bytes) -> None:
    """Add a word to the flags; it is durable when this returns. Raises HeadraceError."""
    try:
        said = msgspec.json.decode(body, type=Said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        expected = f'{{"stream", "index", "what": one of {", ".join(get_args(What))}, "reason"}}'
        raise BadParameterError(f"expected {expected}: {error}") from error
    catalogue.refresh()
    try:
        catalogue.episode(said.stream, said.index)
    except OverflowError as error:
        raise UnknownEpisodeError(f"index {said.index} is no index") from error
    add_flag(catalogue.root, said.stream, Word(said.what, [said.index], said.reason.strip()))
