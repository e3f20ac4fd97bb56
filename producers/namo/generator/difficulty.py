"""How full and how tight a scene is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """Ranges are inclusive; lengths in metres. The number is part of the seed: it must never change.

    movables: how many boxes. half: their half extents. doors_blocked: how many boxes are put into doors on purpose.
    loops: the probability that a way round is left open. door_width: clear width of a door. hops: probabilities that
    one, two, three boundaries of boxes, at least, are wanted between robot and goal.
    """

    number: int
    movables: tuple[int, int]
    half: tuple[float, float]
    doors_blocked: tuple[int, int]
    loops: float
    door_width: tuple[float, float]
    hops: tuple[float, ...]


DIFFICULTIES = {
    "easy": Difficulty(0, (2, 3), (0.2, 0.35), (1, 1), 0.0, (0.8, 1.0), (1.0,)),
    "medium": Difficulty(1, (5, 7), (0.2, 0.5), (1, 2), 0.25, (0.65, 0.95), (0.5, 0.3, 0.2)),
    "hard": Difficulty(2, (8, 12), (0.2, 0.5), (1, 3), 0.25, (0.6, 0.9), (0.3, 0.4, 0.3)),
}
