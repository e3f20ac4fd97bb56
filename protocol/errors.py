"""Every error that Headrace raises on purpose.

    HeadraceError
    ├── ConfigurationError      a flag, a name or a file the user gave is wrong          (also a ValueError)
    ├── SpecError               a stream spec that no dataset could hold                 (also a ValueError)
    ├── EpisodeError            a step or an episode does not fit its stream's spec      (also a ValueError)
    ├── ProtocolError           the peer sent what the protocol does not allow
    ├── RefusedError            the sink refused, with a code and a sentence
    ├── DatasetError            the dataset directory cannot be used as asked
    │   ├── CorruptionError     stored bytes differ from their checksums
    │   └── LockedError         another sink already writes here
    ├── DiskFullError           the next shard cannot be reserved
    └── ModelError              weights that cannot be used, or a model that gives no usable answer

A message says what was expected, what was found, where, and what to do. The first three are ours to mend on this side;
`ProtocolError` and `RefusedError` name the side that caused them.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """The root: `except HeadraceError` catches all that is foreseen and nothing else."""


class ConfigurationError(HeadraceError, ValueError):
    """A flag, a name or a file that the user gave is wrong."""


class SpecError(HeadraceError, ValueError):
    """A stream spec that no dataset could hold."""


class EpisodeError(HeadraceError, ValueError):
    """A step or an episode does not fit its stream's spec."""


class ProtocolError(HeadraceError):
    """The peer sent what the protocol does not allow."""


class RefusedError(HeadraceError):
    """The sink refused; `code` is one of `messages.RefusalCode`."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"the sink refused ({code}): {why}")
        self.code = code
        self.why = why


class DatasetError(HeadraceError):
    """The dataset directory cannot be used as asked."""


class CorruptionError(DatasetError):
    """Stored bytes differ from their checksums."""


class LockedError(DatasetError):
    """Another sink already writes to this dataset."""


class DiskFullError(HeadraceError):
    """The next shard cannot be reserved."""


class ModelError(HeadraceError):
    """Published weights that cannot be used, or a model that gives no usable answer."""
