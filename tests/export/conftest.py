"""These tests run real sinks, and fill real disks."""

from tests.live_sink import run_sink
from tests.tmpfs import tmpfs

__all__ = ["run_sink", "tmpfs"]
