"""Fixtures of this folder."""

from tests.live_sink import run_sink

__all__ = ["run_sink"]
