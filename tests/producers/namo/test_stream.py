"""A real search as rows: what is read back is what happened."""

from __future__ import annotations

import numpy as np
import pytest

from producers.namo.outcome import SearchResult
from producers.namo.push import PushCode
from producers.namo.search import SearchKey, SearchOptions, search
from producers.namo.stream import attempt_table, contact_bits, row, stream_spec
from producers.namo.world import World
from protocol.namo.episodes import CONTACTS, MAX_PRIMITIVES, PUSH_CODES
from protocol.namo.scene import Scene
from tests.producers.namo.rooms import box, divided

SCENE = divided([box(1, 0.0, 0.0), box(2, -1.0, 1.2, 0.4), box(3, 0.75, 0.1, 0.2)])


@pytest.fixture(scope="module")
def found() -> tuple[Scene, SearchResult]:
    """Chosen so that boxes push boxes, and that it takes some attempts."""
    options = SearchOptions(max_depth=2, max_pushes=400, search_timeout_s=600)
    world = World(SCENE)
    try:
        return SCENE, search(world, options, SearchKey(3, 0, 0))
    finally:
        world.close()


def test_codes_of_pushes_all_have_a_number() -> None:
    assert [str(code) for code in PushCode] == list(PUSH_CODES)


def test_a_row_fits_the_spec_and_says_what_happened(found: tuple[Scene, SearchResult]) -> None:
    scene, result = found
    assert result.solved
    assert result.plan
    spec = stream_spec("namo/test", 5)
    spec.check()
    for step in result.plan:
        made = row(scene, step, 5)
        assert set(made) == {column.name for column in spec.columns}
        for column in spec.columns:
            assert np.asarray(made[column.name]).shape == column.shape
        np.testing.assert_array_equal(made["observations/movables"][:3], step.result.before.movables)
        np.testing.assert_array_equal(made["next_observations/movables"][:3], step.result.after.movables)
        assert np.isnan(made["observations/movables"][3:]).all()
        assert scene.movables[made["object"]].name == step.object
        assert PUSH_CODES[made["code"]] == str(step.result.code)
        count = made["primitive_count"]
        assert count == len(step.result.primitives) <= MAX_PRIMITIVES
        faces = [primitive.face for primitive in step.result.primitives]
        assert made["primitives"][:count, 0].tolist() == faces
        assert (made["primitives"][count:] == -1).all()


def test_the_table_of_attempts_gives_back_every_state(found: tuple[Scene, SearchResult]) -> None:
    scene, result = found
    table = attempt_table(scene, result.attempts)
    assert len(table) == len(result.attempts) > 3
    assert table.moved, "no box pushed another; the scene shows too little"
    before, after = table.states(scene)
    for attempt, start, end in zip(result.attempts, before, after, strict=True):
        np.testing.assert_allclose(start.robot, attempt.result.before.robot, atol=1e-4)
        np.testing.assert_allclose(start.movables, attempt.result.before.movables, atol=1e-4)
        np.testing.assert_allclose(end.robot, attempt.result.after.robot, atol=1e-4)
        np.testing.assert_allclose(end.movables, attempt.result.after.movables, atol=1e-4)


def test_contacts_are_those_of_any_primitive(found: tuple[Scene, SearchResult]) -> None:
    _, result = found
    seen = set()
    for attempt in result.attempts:
        primitives = attempt.result.primitives
        names = {name for bit, name in enumerate(CONTACTS) if contact_bits(primitives) >> bit & 1}
        assert ("object_movable" in names) == any(one.object_movables for one in primitives)
        for name in ("robot_wall", "robot_movable", "object_wall", "stuck"):
            assert (name in names) == any(getattr(one, name) for one in primitives)
        seen |= names
    assert {"object_movable", "object_wall"} <= seen
