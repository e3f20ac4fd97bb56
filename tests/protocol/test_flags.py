"""Lines of flags, as bytes: what counts, what a crash can leave, and what is damage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checksum import flag_checksum
from protocol.errors import ConfigurationError
from protocol.flags import MAX_FLAGGED, MAX_LINE_BYTES, FlagRecord, Place, Scan, Standings, encode, scan

HERE = Place("00000000-0000-4000-8000-000000000000", "lab/small")


def record(
    sequence: int = 0, what: Any = "discard", indices: tuple[int, ...] = (7,), reason: str = "fell"
) -> FlagRecord:
    return FlagRecord(sequence, indices, what, reason, "ana@lab", 1_700_000_000_000_000_000 + sequence)


def lines(count: int, reason: str = "fell") -> list[bytes]:
    return [encode(record(number, indices=(number,), reason=reason), HERE) for number in range(count)]


def state(found: Scan) -> tuple[int, bool]:
    return len(found.records), found.fault is not None


WORDS = st.tuples(
    st.sampled_from(["discard", "keep", "flag", "unflag"]),
    st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True).map(lambda each: tuple(sorted(each))),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40).filter(str.strip),
)


@given(st.lists(WORDS, max_size=12))
def test_what_is_written_is_read_and_the_last_word_counts(words: list[tuple[str, tuple[int, ...], str]]) -> None:
    said = [record(number, what, indices, reason) for number, (what, indices, reason) in enumerate(words)]
    found = scan(b"".join(encode(each, HERE) for each in said), HERE)
    assert [(r.what, r.indices, r.reason) for r in found.records] == [(*word,) for word in words]
    standings = Standings()
    standings.apply(found.records)
    for index in range(7):
        about = [(what, reason) for what, indices, reason in words if index in indices]
        discards = [reason if what == "discard" else None for what, reason in about if what in ("discard", "keep")]
        flags = [reason if what == "flag" else None for what, reason in about if what in ("flag", "unflag")]
        standing = standings.of(index)
        assert (standing.discarded.reason if standing.discarded else None) == (discards[-1] if discards else None)
        assert (standing.flagged.reason if standing.flagged else None) == (flags[-1] if flags else None)
        assert (index in standings.discarded(), index in standings.flagged()) == (
            bool(standing.discarded),
            bool(standing.flagged),
        )
        assert (index in standings.said()) == (standing.discarded is not None or standing.flagged is not None)


@pytest.mark.parametrize("reason", ["fell", "x" * 500], ids=["in one sector", "over sectors"])
def test_a_line_that_is_cut_anywhere_is_no_line_and_no_damage(reason: str) -> None:
    *before, last = lines(4, reason)
    whole = b"".join(before)
    for size in range(len(last)):
        found = scan(whole + last[:size], HERE)
        assert (state(found), found.end) == ((3, False), len(whole)), size
    assert state(scan(whole + last, HERE)) == (4, False)


@given(st.integers(0, 2**12 - 1), st.integers(0, 600))
def test_a_line_of_which_any_sectors_are_missing_is_no_line_and_no_damage(missing: int, offset: int) -> None:
    indices = tuple(range(1000, 2000))
    line = bytearray(encode(record(0, indices=indices), HERE))
    starts = [0, *range(512 - offset % 512, len(line), 512)]
    lost = [(a, b) for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(line)], strict=True)) if missing >> n & 1]
    for a, b in lost:
        line[a:b] = bytes(b - a)
    assert state(scan(bytes(line), HERE, offset=offset)) == (0 if lost else 1, False)


def test_every_flipped_bit_of_a_line_is_damage_and_none_the_trace_of_a_crash() -> None:
    """Also in the last line, which is the one that a crash can have touched."""
    data = b"".join(lines(2))
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            found = scan(bytes(changed), HERE)
            before = data[:place].count(b"\n")
            assert state(found) == (before, True), (place, bit)


def test_lines_that_are_missing_exchanged_or_of_another_place_are_damage() -> None:
    first, second, third = lines(3)
    assert "lines before it are missing" in str(scan(first + third, HERE).fault)
    assert "lines before it are missing, or were put in" in str(scan(first + first, HERE).fault)
    assert state(scan(second + first + third, HERE)) == (0, True)
    for other in (Place(HERE.dataset_uuid, "lab/other"), Place("0" * 36, HERE.stream)):
        assert "belongs to another stream or dataset" in str(scan(first, other).fault)
    assert state(scan(first + bytes(600), HERE)) == (1, False), "a file that has grown before it was written"
    assert state(scan(first + b"x" * (MAX_LINE_BYTES + 1), HERE)) == (1, True)


def test_a_sound_line_that_says_something_unknown_is_not_passed_over() -> None:
    strange = encode(record(), HERE).replace(b"discard", b"destroy")[:-32]
    line = strange + b',"checksum":"%016x"}\n' % flag_checksum(strange, 0, HERE.dataset_uuid, HERE.stream)
    found = scan(line, HERE)
    assert state(found) == (0, True)
    assert "line 0: it is sound, but cannot be read here" in str(found.fault)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (record(reason="two\nlines"), "reason: control characters and ends of lines are refused, found '\\n'"),
        (record(reason="a\x1b[2J"), "found '\\x1b'"),
        (record(reason="a\u2028b"), "refused"),
        (record(reason="\ud800"), "refused"),
        (record(reason="x" * 501), "reason: expected at most 500 characters, found 501"),
        (record(reason="  "), "expected a reason to discard an episode, found none"),
        (record(what="flag", reason=""), "expected a reason to flag"),
        (record(what="drop"), "expected one of discard, keep, flag, unflag, found 'drop'"),
        (record(indices=()), "expected 1 to 4096 indices, found 0"),
        (record(indices=tuple(range(MAX_FLAGGED + 1))), "found 4097"),
        (record(indices=(2, 1)), "expected ascending indices"),
        (record(indices=(1, 1)), "each once"),
        (record(indices=(-1,)), "from 0"),
        (record(indices=(2**62,)), "below 2\\^62"),
    ],
)
def test_what_may_not_be_said_is_refused(wrong: FlagRecord, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why.replace("\\x1b", "\\\\x1b").replace("'\\n'", "'.*n'")):
        encode(wrong, HERE)


def test_the_longest_line_fits() -> None:
    longest = FlagRecord(
        2**63 - 1, tuple(range(2**62 - MAX_FLAGGED, 2**62)), "discard", "\U0001f600" * 500, '"' * 100, 2**63 - 1
    )
    line = encode(longest, HERE)
    assert len(line) < MAX_LINE_BYTES
    assert scan(line, HERE, sequence=2**63 - 1).records[0].indices == longest.indices
