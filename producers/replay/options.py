"""The flags of `headrace produce replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

# ACT's files do not say their rate; its paper and its simulation record at 50 Hz.
DEFAULT_RATE_HZ = 50.0


@dataclass(frozen=True)
class ReplayOptions:
    """Publish a recorded dataset: a folder of ACT or ACT++, a robomimic file, or a LeRobot folder (v3.0).

    The number of a recorded episode is its index, so a second run publishes only what is missing.
    """

    source: Annotated[Path, tyro.conf.arg(name="from")]
    """The recorded dataset; it is only read."""
    sink: str = "tcp://127.0.0.1:5555"
    """Endpoint of the sink, or the path of the file that it writes with --announce."""
    key: Path | None = None
    """Key file that the operator of a sink with keys gave you; by default the one that HEADRACE_KEY names, if set."""
    stream: str | None = None
    """Stream name; by default replay/ and the name of the file or folder."""
    workers: int = 2
    """Worker processes, one core each."""
    start_idx: int = 0
    """First episode."""
    end_idx: int | None = None
    """Up to, not including, this one; by default all."""
    rate_hz: float | None = None
    """Steps per second; by default what the recording says, and 50 where it does not (ACT)."""
    jpeg_quality: int = 90
    """For images that are not JPEG yet, 1 to 100. JPEGs are published as they are."""
    swap_channels: bool = False
    """Exchange red and blue: ACT++ compresses its images so that every other viewer shows them exchanged."""
    skip_damaged: bool = False
    """Record an episode that cannot be read as failed, and go on; without it the first one ends the command."""
    nice: int = 5
    """Added to the workers' niceness, so that a sink and a trainer on the same machine go first."""

    @property
    def stream_name(self) -> str:
        """The stream that is published."""
        from producers.replay.recording import default_stream

        return self.stream or default_stream(self.source)
