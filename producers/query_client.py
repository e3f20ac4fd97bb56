"""Asking an inference server."""

from __future__ import annotations

from protocol.errors import HeadraceError


class NoAnswerError(HeadraceError):
    """A query stays without an answer; `code` says why in one word."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"no answer ({code}): {why}")
        self.code = code
        self.why = why
