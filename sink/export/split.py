"""Named fractions of a dataset that never move an episode from one to another."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import xxhash

from protocol.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SEED = 0x7370_6C69_74  # "split"


class Split:
    """`NAME=FRACTION …`. An index belongs to the same name in every export and on every machine.

    It depends on a hash of the index and on the fractions only, so it does not change when the dataset grows.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Raises ConfigurationError unless names are distinct and fractions are above 0 and 1 at most together."""
        pairs = [_pair(word) for word in words]
        self.names = tuple(name for name, _ in pairs)
        self.fractions = tuple(fraction for _, fraction in pairs)
        if len(set(self.names)) != len(self.names):
            raise ConfigurationError(f"--split {' '.join(words)}: a name occurs twice")
        if math.fsum(self.fractions) > 1 + 1e-9:
            raise ConfigurationError(f"--split {' '.join(words)}: the fractions are more than 1 together")
        # The sum in floating point may be a little less than 1; the last name ends where all end.
        self._whole = math.fsum(self.fractions) > 1 - 1e-9

    def of(self, index: int) -> str | None:
        """The name that an index belongs to; None if fractions leave it out."""
        place = xxhash.xxh64_intdigest(index.to_bytes(8, "little"), seed=_SEED) / 2**64
        end = 0.0
        for name, fraction in zip(self.names, self.fractions, strict=True):
            end += fraction
            if place < end:
                return name
        return self.names[-1] if self.names and self._whole else None


def _pair(word: str) -> tuple[str, float]:
    name, _, text = word.partition("=")
    try:
        fraction = float(text)
    except ValueError:
        fraction = math.nan
    if not _NAME.fullmatch(name) or not 0 < fraction <= 1:
        raise ConfigurationError(f"--split {word!r}: expected NAME=FRACTION, e.g. train=0.9, above 0 and 1 at most")
    return name, fraction
