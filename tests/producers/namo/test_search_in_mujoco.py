"""The planners on scenes in MuJoCo."""

from __future__ import annotations

from dataclasses import replace

import pytest

from producers.namo.generator.templates import TEMPLATES
from producers.namo.plan_check import refine, smooth, verify
from producers.namo.scenes import GeneratedScenes
from producers.namo.search import SearchKey, SearchOptions, SearchResult, StopReason, search
from producers.namo.world import World
from protocol.namo.scene import Box, Scene
from tests.producers.namo.answering import InProcess, last_first, nan_goals
from tests.producers.namo.sliding_world import frame, movable, two_rooms

SCENES = {
    "door": two_rooms(),
    "door and a box": two_rooms(movable(1, 1.2, 0.6)),
    "two doors deep": two_rooms(movable(1, 1.2, 0.6), movable(2, 2.5, 1.5, (0.3, 0.9))),
    "three boxes": two_rooms(movable(1, 1.2, 0.6, (0.2, 0.2), 0.5), movable(2, 1.1, 2.3), movable(3, 2.9, 1.2)),
    "hopeless": two_rooms(walls=(Box("wall_6", 2.6, 1.5, 0.0, 0.05, 1.5),)),
    "corridor": Scene(
        "corridor",
        (0.0, 5.0, 0.0, 1.6),
        (0.5, 0.8),
        (4.5, 0.8),
        frame(5.0, 1.6),
        (movable(0, 2.0, 0.8, (0.2, 0.6)), movable(1, 3.2, 0.8, (0.2, 0.6))),
    ),
} | {template: GeneratedScenes(template, "medium", 3).load(0).scene for template in TEMPLATES}
OPTIONS = SearchOptions(max_depth=2, max_goals_per_object=2, search_timeout_s=600)
KEY = SearchKey(0, 1, 2)


@pytest.fixture(params=SCENES)
def scene(request: pytest.FixtureRequest) -> Scene:
    return SCENES[request.param]


def tried(result: SearchResult) -> list[tuple[int, str, tuple[float, float, float], bytes]]:
    return [(one.parent, one.object, one.target, one.result.after.key) for one in result.attempts]


def test_the_tree_finds_the_plan_of_idfs_and_it_works(scene: Scene) -> None:
    idfs = search(World(scene), OPTIONS, KEY)
    tree = search(World(scene), replace(OPTIONS, algorithm="tree_idfs"), KEY)
    assert idfs.stop_reason in (StopReason.SOLVED, StopReason.EXHAUSTED)
    assert tree.stop_reason is idfs.stop_reason
    assert not (idfs.solved and scene is SCENES["hopeless"])
    assert tried(tree) == tried(idfs)
    assert tree.nodes_expanded == len(idfs.attempts) <= idfs.nodes_expanded
    assert verify(World(scene), tree.plan) is tree.solved


@pytest.mark.parametrize("goals", ["random", "grid", "adaptive"])
@pytest.mark.parametrize("name", ["door", "door and a box", "three boxes"])
def test_a_box_in_a_door_is_pushed_out_of_it(name: str, goals: str) -> None:
    options = SearchOptions(algorithm="tree_idfs", goal_strategy=goals, object_strategy="blocking_path", max_depth=2)  # type: ignore[arg-type]
    result = search(World(SCENES[name]), options, KEY)
    assert result.solved
    assert result.plan[-1].result.goal_open


def test_every_solved_search_has_a_plan_that_can_be_shortened_and_refined(scene: Scene) -> None:
    world = World(scene)
    for episode in range(2):
        result = search(world, replace(OPTIONS, algorithm="random_sampling", max_depth=6), SearchKey(0, 0, episode))
        if result.solved:
            assert verify(World(scene), result.plan)
            shorter = smooth(world, result.plan)
            assert len(shorter) <= len(result.plan)
            assert shorter[-1].object == result.plan[-1].object
            assert verify(World(scene), shorter)
            assert verify(World(scene), refine(world, shorter))


@pytest.mark.parametrize("budget", [1, 4, 9])
def test_the_world_asks_before_every_primitive(budget: int) -> None:
    asked = [0]

    def cancelled() -> bool:
        asked[0] += 1
        return False

    result = search(World(SCENES["hopeless"]), replace(OPTIONS, max_pushes=budget), KEY, cancelled=cancelled)
    assert result.stop_reason is StopReason.PUSH_BUDGET
    assert result.primitives == budget
    assert asked[0] > budget


def test_models_are_followed_and_done_without() -> None:
    ml = replace(OPTIONS, object_strategy="ml", goal_strategy="ml", ml_object_model="a", ml_goal_model="b", max_depth=1)
    scene = SCENES["three boxes"]
    followed = search(World(scene), ml, KEY, InProcess(last_first))
    assert followed.attempts[0].object == World(scene).reachable(World(scene).initial())[-1]
    assert followed.ml.fallbacks == {}
    without = search(World(scene), ml, KEY, InProcess(nan_goals))
    heuristic = search(World(scene), replace(OPTIONS, object_strategy="nearest_first", max_depth=1), KEY)
    assert tried(without) == tried(heuristic)
    assert without.ml.fallbacks == {"bad_answer": 1}
