"""What every generated scene promises."""

from __future__ import annotations

import os

import numpy as np
import pytest

from producers.namo import boxes
from producers.namo.generator.difficulty import DIFFICULTIES
from producers.namo.generator.generate import CLEARANCE_M, DISTANCE_M, generate
from producers.namo.generator.templates import TEMPLATES
from producers.namo.mjcf_writer import write_mjcf
from producers.namo.regions import hops
from producers.namo.scenes import ALL, GeneratedScenes, SceneError
from protocol.errors import ConfigurationError
from protocol.namo.edges import reachable_edges
from protocol.namo.scene import Box, Scene, State
from protocol.namo.wavefront import Wavefront

SCENES = int(os.environ.get("HEADRACE_SOAK_SCENES", "200"))
_KINDS = [(template, difficulty) for template in TEMPLATES for difficulty in DIFFICULTIES]


def _check(scene: Scene, difficulty: str) -> None:
    wavefront, state = Wavefront(scene), State.initial(scene)
    reach = wavefront.reach(state)
    assert not reach.goal_open
    assert wavefront.reach(state, without=range(len(scene.movables))).goal_open
    assert any(reachable_edges(reach, box, (box.x, box.y, box.yaw)).any() for box in scene.movables)
    walls, movables = boxes.rows(scene.walls), boxes.rows(scene.movables)
    for number, row in enumerate(movables):
        assert not boxes.overlaps(row, np.concatenate([walls, movables[:number]])).any()
    for place in (scene.robot, scene.goal):
        assert boxes.distances(*place, np.concatenate([walls, movables])).min() >= CLEARANCE_M
    assert np.hypot(*np.subtract(scene.robot, scene.goal)) >= DISTANCE_M
    assert np.allclose(scene.bounds, boxes.bounds(walls), rtol=0, atol=1e-9)
    low, high = DIFFICULTIES[difficulty].movables
    assert low <= len(scene.movables) <= high


@pytest.mark.parametrize(("template", "difficulty"), _KINDS)
def test_scenes_are_blocked_solvable_in_principle_and_free_of_overlap(template: str, difficulty: str) -> None:
    share = -(-SCENES // len(_KINDS)) if SCENES == 200 else SCENES
    for index in range(share):
        _check(generate(template, difficulty, 7, index).scene, difficulty)


@pytest.mark.parametrize(("template", "difficulty"), _KINDS)
def test_a_scene_depends_on_its_index_alone(template: str, difficulty: str) -> None:
    forward = {index: write_mjcf(generate(template, difficulty, 1, index).scene) for index in range(2)}
    backward = {index: write_mjcf(generate(template, difficulty, 1, index).scene) for index in (1, 0)}
    assert forward == backward
    assert len(set(forward.values())) == 2
    other_seed = generate(template, difficulty, 2, 0).scene
    assert other_seed.digest() != generate(template, difficulty, 1, 0).scene.digest()
    assert other_seed.name == f"{template}/{difficulty}/0"


def test_known_scenes_have_not_changed() -> None:
    """A change here gives stored environment indices another meaning: say so in the changelog, and make new sets."""
    digests = {each: GeneratedScenes(each, "medium", 5).load(3).scene.digest()[:16] for each in TEMPLATES}
    assert digests == {
        "two_rooms": "1ab258abf7b1c708",
        "corridor": "95eb9b4bb7119cc8",
        "four_rooms": "2febaf88af986521",
        "maze": "24dfce6f6a9c6414",
    }


def test_all_takes_the_templates_in_turn() -> None:
    scenes = GeneratedScenes(ALL, "easy", 4, count=9)
    assert len(scenes) == 9
    for index in range(9):
        alone = GeneratedScenes(list(TEMPLATES)[index % 4], "easy", 4).load(index // 4)
        assert scenes.load(index) == alone


def test_meta_says_how_a_scene_was_made() -> None:
    loaded = GeneratedScenes("four_rooms", "hard", 11).load(2)
    assert (loaded.meta.template, loaded.meta.difficulty, loaded.meta.seed, loaded.meta.number) == (
        "four_rooms",
        "hard",
        11,
        2,
    )
    assert loaded.meta.n_movables == len(loaded.scene.movables)
    assert loaded.meta.hops == hops(Wavefront(loaded.scene), State.initial(loaded.scene)) >= 1


def test_hops_count_the_boundaries_of_movables() -> None:
    def barrier(name: str, x: float) -> Box:
        return Box(name, x, 0.0, 0.0, 0.1, 0.95)

    walls = tuple(
        Box(f"wall_{n}", *place, 0.0, *half)
        for n, (place, half) in enumerate(
            (
                ((-3.0, 0.0), (0.05, 1.0)),
                ((3.0, 0.0), (0.05, 1.0)),
                ((0.0, -1.0), (3.0, 0.05)),
                ((0.0, 1.0), (3.0, 0.05)),
            )
        )
    )
    barriers = tuple(barrier(f"obstacle_{n}_movable", x) for n, x in enumerate((-1.5, 0.0, 1.5)))
    bounds = boxes.bounds(boxes.rows(walls))
    for goal_x, expected in ((-2.0, 0), (-0.75, 1), (0.75, 2), (2.5, 3)):
        scene = Scene("", bounds, (-2.5, 0.0), (goal_x, 0.0), walls, barriers)
        assert hops(Wavefront(scene), State.initial(scene)) == expected
    walled = Scene("", bounds, (-2.5, 0.0), (2.5, 0.0), (*walls, barrier("wall_9", 2.0)), barriers)
    assert hops(Wavefront(walled), State.initial(walled)) is None


def test_wrong_words_and_indices_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a template, one of two_rooms, .*, all; found 'castle'"):
        GeneratedScenes("castle", "easy", 0)
    with pytest.raises(ConfigurationError, match="expected a difficulty, one of easy, medium, hard; found 'brutal'"):
        GeneratedScenes("maze", "brutal", 0)
    with pytest.raises(ConfigurationError, match="seed"):
        GeneratedScenes("maze", "easy", -1)
    with pytest.raises(SceneError, match=r"environment index 5: expected 0 ≤ index < 5"):
        GeneratedScenes("maze", "easy", 0, count=5).load(5)
