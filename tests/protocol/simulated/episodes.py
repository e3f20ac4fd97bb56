"""What an episode is: a function of its index."""

from __future__ import annotations

import json

from protocol.messages import Outcome
from protocol.spec import StreamSpec

Payload = tuple[bytes, ...]
Key = tuple[str, int]  # stream, index

OUTCOMES = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.VOID, Outcome.FAILURE, Outcome.SUCCESS)


def outcome_of(index: int) -> Outcome:
    """How an index ends."""
    return OUTCOMES[(index + index // 7) % len(OUTCOMES)]


def steps_of(spec: StreamSpec, index: int) -> int:
    """T of an index."""
    return 0 if outcome_of(index) is Outcome.VOID else 1 + index % spec.max_steps


def frame(index: int, step: int, camera: int, attempt: int) -> bytes:
    """A frame that says where it belongs and in which attempt it was made; its size depends on its place only."""
    size = 20_000 + 7_919 * (5 * index + 3 * step + camera) % 70_000
    return f"{index} {step} {camera} {attempt} ".encode().ljust(size, b".")


def document(index: int) -> bytes:
    """A text that a few episodes share."""
    return f"document {index % 3} ".encode().ljust(30_000 if index % 3 else 180_000, b"#")


def columns(spec: StreamSpec, index: int) -> Payload:
    """One buffer per column."""
    steps = steps_of(spec, index)
    return tuple(f"{index} {c.name} ".encode().ljust(steps * c.row_bytes, b"-") for c in spec.columns if steps)


def attributes(attempt: int) -> bytes:
    """The attributes name the attempt too, so that parts of two attempts cannot be mistaken for one episode."""
    return json.dumps({"attempt": attempt}).encode()
