"""What people and programs say about episodes after their commit: flags, and which are discarded. SPEC.md section 3.14.

    STREAM/flags.jsonl       one line for each word, numbered from 0, appended and synced, never changed

    {"sequence":0,"indices":[17],"what":"discard","reason":"the can fell over","who":"…","time_ns":…,"checksum":"…"}

The shards are not touched, so a word is taken back by another word. Lines are scanned, written and read as bytes here;
`sink/flagging.py` appends them to the file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

import msgspec

from protocol.checksum import flag_checksum
from protocol.errors import ConfigurationError

FLAGS_NAME = "flags.jsonl"
MAX_REASON = 500
MAX_WHO = 100
MAX_FLAGGED = 4096
MAX_LINE_BYTES = 1 << 17
MAX_FLAGS_BYTES = 1 << 26

What = Literal["discard", "keep", "flag", "unflag"]
# Those that say something, so that a reader must be told why.
_WITH_REASON = ("discard", "flag")
_TAIL = b',"checksum":"0000000000000000"}'
_SECTOR = 512
# Unicode: control characters, halves of characters, ends of lines and of paragraphs.
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)

Index = Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)]


class FlagRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. indices: ascending, each once. time_ns: the writer's clock, Unix time; it orders nothing."""

    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    indices: Annotated[tuple[Index, ...], msgspec.Meta(min_length=1, max_length=MAX_FLAGGED)]
    what: What
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)]
    who: Annotated[str, msgspec.Meta(max_length=MAX_WHO)]
    time_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    checksum: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")] = "0" * 16


@dataclass(frozen=True)
class Place:
    """Whose flags they are: they count for this stream of this dataset only."""

    dataset_uuid: str
    stream: str


@dataclass(frozen=True)
class Standing:
    """What is said of an index now. discarded, flagged: the line that says so, with its reason; None: not said."""

    discarded: FlagRecord | None = None
    flagged: FlagRecord | None = None


NOTHING_SAID = Standing()


class Standings:
    """What is said of each index of a stream, after the lines that were applied. Pure."""

    def __init__(self) -> None:
        self._said: dict[int, Standing] = {}

    def apply(self, records: Iterable[FlagRecord]) -> None:
        """Take in further lines, in their order."""
        for record in records:
            for index in record.indices:
                after = _after(self.of(index), record)
                if after == NOTHING_SAID:
                    self._said.pop(index, None)
                else:
                    self._said[index] = after

    def of(self, index: int) -> Standing:
        """Of one index."""
        return self._said.get(index, NOTHING_SAID)

    def said(self) -> dict[int, Standing]:
        """All indices of which something is said, by index."""
        return dict(sorted(self._said.items()))

    def discarded(self) -> list[int]:
        """The indices that are discarded, ascending."""
        return sorted(index for index, standing in self._said.items() if standing.discarded)

    def flagged(self) -> list[int]:
        """The indices that are flagged, ascending."""
        return sorted(index for index, standing in self._said.items() if standing.flagged)


def _after(before: Standing, record: FlagRecord) -> Standing:
    match record.what:
        case "discard":
            return replace(before, discarded=record)
        case "keep":
            return replace(before, discarded=None)
        case "flag":
            return replace(before, flagged=record)
        case "unflag":
            return replace(before, flagged=None)


def check(record: FlagRecord) -> FlagRecord:
    """The record, if a line may say this. Raises ConfigurationError."""
    if record.what not in get_args(What):
        raise ConfigurationError(f"expected one of {', '.join(get_args(What))}, found {record.what!r}")
    if not 1 <= len(record.indices) <= MAX_FLAGGED:
        raise ConfigurationError(f"expected 1 to {MAX_FLAGGED} indices, found {len(record.indices)}")
    if list(record.indices) != sorted(set(record.indices)) or not 0 <= record.indices[0] <= record.indices[-1] < 2**62:
        raise ConfigurationError("expected ascending indices, each once and from 0 to below 2^62")
    for name, text, most in (("reason", record.reason, MAX_REASON), ("who", record.who, MAX_WHO)):
        if len(text) > most:
            raise ConfigurationError(f"{name}: expected at most {most} characters, found {len(text)}; say it shorter")
        bad = next((char for char in text if unicodedata.category(char) in _REFUSED), None)
        if bad is not None:
            raise ConfigurationError(f"{name}: control characters and ends of lines are refused, found {bad!r}")
    if record.what in _WITH_REASON and not record.reason.strip():
        raise ConfigurationError(f"expected a reason to {record.what} an episode, found none")
    return record


# --- lines --------------------------------------------------------------------------------------------------------


def encode(record: FlagRecord, place: Place) -> bytes:
    """The line of a record, with its checksum and the end of line. Raises ConfigurationError if it may not say this."""
    plain = msgspec.json.encode(check(msgspec.structs.replace(record, checksum="0" * 16)))[: -len(_TAIL)]
    checksum = flag_checksum(plain, record.sequence, place.dataset_uuid, place.stream)
    return plain + b',"checksum":"%016x"}\n' % checksum


@dataclass
class Scan:
    """What some bytes of a file hold. end: bytes of the sound lines. fault: why what follows is damage, or None; else
    what follows, if anything, is a line that was not written whole."""

    records: list[FlagRecord] = field(default_factory=list)
    end: int = 0
    fault: str | None = None


def scan(data: bytes, place: Place, sequence: int = 0, offset: int = 0) -> Scan:
    """The lines of `data`, of which the first is line `sequence`, at byte `offset` of the file."""
    found = Scan()
    while found.end < len(data) and found.fault is None:
        number = sequence + len(found.records)
        end = data.find(b"\n", found.end, found.end + MAX_LINE_BYTES) + 1
        line = data[found.end : end] if end else b""
        if line and _is_sound(line, number, place):
            try:
                found.records.append(_decode(line))
                found.end = end
            except (*_UNREADABLE, ConfigurationError) as error:
                found.fault = f"line {number}: it is sound, but cannot be read here: {error}"
        elif _is_torn(data[found.end :], number, place, offset + found.end):
            break
        else:
            found.fault = f"line {number}, at byte {offset + found.end}: {_why(line, number)}"
    return found


def _decode(line: bytes) -> FlagRecord:
    return check(msgspec.json.decode(line, type=FlagRecord))


def _is_sound(line: bytes, number: int, place: Place) -> bool:
    plain, tail = line[: -len(_TAIL) - 1], line[-len(_TAIL) - 1 :]
    return tail == b',"checksum":"%016x"}\n' % flag_checksum(plain, number, place.dataset_uuid, place.stream)


def _is_torn(rest: bytes, number: int, place: Place, offset: int) -> bool:
    """The rest of a file is what a crash can leave of the last line: its beginning, or a line with sectors of zeros."""
    if b"\n" in rest[:-1] or len(rest) > MAX_LINE_BYTES:
        return False
    if not rest.endswith(b"\n"):
        # Whole but for its end of line: that one was changed, unless it was never written.
        return rest.endswith(b"\0") or not _is_sound(rest[:-1] + b"\n", number, place)
    first = _SECTOR - offset % _SECTOR
    starts = [0, *range(first, len(rest), _SECTOR)]
    return any(not any(rest[a:b]) for a, b in zip(starts, [*starts[1:], len(rest)], strict=True))


def _why(line: bytes, number: int) -> str:
    try:
        said = msgspec.json.decode(line, type=FlagRecord).sequence
    except _UNREADABLE:
        said = number
    if said != number:
        return f"it says that it is line {said}; lines before it are missing, or were put in"
    return "it differs from its checksum, or belongs to another stream or dataset"
