"""The table of attempts: it comes back as it went in, however long it is, and gives back the states."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from protocol.errors import DatasetError
from protocol.namo.episodes import AttemptTable, attempts_of, pack_attempts, scene_of
from protocol.namo.scene import Box, Scene, State

ROOM = 230_000  # bytes
SCENE = Scene(
    "s",
    (0, 4, 0, 4),
    (0.5, 0.5),
    (3.5, 3.5),
    (),
    tuple(Box(f"obstacle_{n}_movable", n, 2, 0.1 * n, 0.2, 0.3) for n in (1, 2, 3)),
)


def table_of(rows: int, seed: int = 0) -> AttemptTable:
    """Random rows, as random as a search's targets are."""
    rng = np.random.default_rng(seed)

    def numbers(width: int) -> list[tuple[float, ...]]:
        return [tuple(row) for row in rng.uniform(-9, 9, (rows, width)).round(4).tolist()]

    return AttemptTable(
        parent=[int(rng.integers(-1, row)) if row else -1 for row in range(rows)],
        depth=rng.integers(1, 6, rows).tolist(),
        object=rng.integers(0, 3, rows).tolist(),
        code=rng.integers(0, 10, rows).tolist(),
        contacts=rng.integers(0, 32, rows).tolist(),
        goal_open=(rng.random(rows) < 0.1).tolist(),
        primitives=rng.integers(0, 10, rows).tolist(),
        target=numbers(3),  # type: ignore[arg-type]
        achieved=numbers(3),  # type: ignore[arg-type]
        robot=numbers(2),  # type: ignore[arg-type]
        moved=[(row, 0, 1.0, 2.0, 3.0) for row in range(0, rows, 7)],
    )


@pytest.mark.parametrize("rows", [0, 1, 30, 5000])
def test_a_table_comes_back_as_it_went_in(rows: int) -> None:
    table = table_of(rows)
    attributes = msgspec.json.decode(msgspec.json.encode({"attempts": pack_attempts(table, ROOM)}))
    assert attempts_of(attributes) == table
    assert attributes["attempts"]["count"] == rows


def test_a_table_that_is_too_long_loses_its_end_and_says_so() -> None:
    table = table_of(20_000)
    packed = pack_attempts(table, ROOM)
    found = attempts_of({"attempts": packed})
    assert len(msgspec.json.encode(packed)) < ROOM + 100
    assert packed["count"] == len(found) > 5000
    assert found.dropped == 20_000 - len(found)
    assert found.achieved == table.achieved[: len(found)]
    assert found.moved == [row for row in table.moved if row[0] < len(found)]


def test_states_are_those_of_the_parents_with_what_each_push_moved() -> None:
    table = AttemptTable(
        parent=[-1, 0, 0],
        depth=[1, 2, 2],
        object=[0, 2, 1],
        code=[0, 0, 0],
        contacts=[0, 0, 0],
        goal_open=[False, False, True],
        primitives=[1, 1, 1],
        target=[(1, 1, 1), (2, 2, 2), (3, 3, 3)],
        achieved=[(1.5, 1.5, 1.5), (2.5, 2.5, 2.5), (3.5, 3.5, 3.5)],
        robot=[(1, 0), (2, 0), (3, 0)],
        moved=[(1, 0, 9.0, 9.0, 9.0)],
    )
    before, after = table.states(SCENE)
    first = State.initial(SCENE)
    assert before[0].key == first.key
    assert before[1].key == before[2].key == after[0].key
    np.testing.assert_array_equal(after[0].movables, [[1.5] * 3, *first.movables[1:]])
    np.testing.assert_array_equal(after[1].movables, [[9.0] * 3, first.movables[1], [2.5] * 3])
    np.testing.assert_array_equal(after[2].movables, [[1.5] * 3, [3.5] * 3, first.movables[2]])
    np.testing.assert_array_equal(after[2].robot, [3, 0])


@pytest.mark.parametrize("attempts", [None, {}, {"table": {"parent": [0]}}, {"zlib": "!"}, {"zlib": "AAAA"}])
def test_attributes_without_a_table_are_said(attempts: object) -> None:
    attributes = {} if attempts is None else {"attempts": attempts}
    with pytest.raises(DatasetError, match="no table of attempts"):
        attempts_of(attributes)


@pytest.mark.parametrize("attributes", [{}, {"scene": None}, {"scene": {"name": "x"}}])
def test_attributes_without_a_scene_are_said(attributes: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="no scene"):
        scene_of(attributes)
