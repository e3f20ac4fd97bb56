"""Published weights that answer queries: alone or in company, sound or not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from inference import namo_models
from inference.namo_models import BUCKETS, ServedGoalModel, ServedObjectModel, load_model
from inference.warm_up import example_queries
from protocol.errors import ModelError
from protocol.namo.queries import Answer, Query, Timing, check_answer, check_query
from protocol.published import MANIFEST, WEIGHTS, PublishedModel, open_published
from tests.namo_queries import permuted, queries
from trainer.namo.architectures import ARCHITECTURES
from trainer.namo.goal_model import GoalConfig, GoalModel
from trainer.namo.object_model import ObjectConfig, ObjectModel
from trainer.publish import publish, untrained


def spread_out(network: torch.nn.Module) -> None:
    """Weights as of a trained model: scores that differ a lot."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, architecture in (("object", "ObjectModel"), ("goal", "GoalModel")):
        network = untrained(ARCHITECTURES[architecture], seed=1)
        spread_out(network)
        publish(network, name, folder)
    return folder


@pytest.fixture(scope="module")
def objects(models: Path) -> ServedObjectModel:
    model = load_model(open_published(models, "object"), "cpu")
    assert isinstance(model, ServedObjectModel)
    return model


@pytest.fixture(scope="module")
def goals(models: Path) -> ServedGoalModel:
    model = load_model(open_published(models, "goal"), "cpu")
    assert isinstance(model, ServedGoalModel)
    return model


# --- answers ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=queries(), others=st.lists(queries(max_movables=20), min_size=1, max_size=9), place=st.integers(0, 9))
def test_company_changes_nothing(
    objects: ServedObjectModel, goals: ServedGoalModel, query: Query, others: list[Query], place: int
) -> None:
    place = min(place, len(others))
    batch = [*others[:place], query, *others[place:]]
    assert objects.rank(batch)[place] == objects.rank([query])[0]
    pairs = [(each, each.reachable[0]) for each in batch]
    assert goals.sample(pairs)[place] == goals.sample([pairs[place]])[0]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 32, 33, 70])
def test_every_size_of_a_batch(objects: ServedObjectModel, goals: ServedGoalModel, size: int) -> None:
    batch = example_queries(size)
    pairs = [(query, query.reachable[-1]) for query in batch]
    assert objects.rank(batch) == [objects.rank([query])[0] for query in batch]
    assert goals.sample(pairs) == [goals.sample([pair])[0] for pair in pairs]


def test_threads_that_share_a_model(goals: ServedGoalModel) -> None:
    """Each computes other queries than its neighbours, at the same time, and gets what it gets alone."""
    asked = [[(query, query.reachable[0]) for query in example_queries(32)[first::4]] for first in range(4)]
    alone = [goals.sample(own) for own in asked]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            assert list(threads.map(goals.sample, asked)) == alone


def test_no_queries(objects: ServedObjectModel, goals: ServedGoalModel) -> None:
    assert objects.rank([]) == []
    assert goals.sample([]) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=queries())
def test_answers_are_those_that_a_planner_may_follow(
    objects: ServedObjectModel, goals: ServedGoalModel, query: Query
) -> None:
    check_query(query)
    ranked = objects.rank([query])[0]
    assert sorted(each.name for each in ranked) == sorted(query.reachable)
    scores = [each.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    assert math.isclose(sum(scores), 1, abs_tol=1e-4 * len(scores))
    name = ranked[0].name
    sampled = goals.sample([(query, name)])[0]
    assert len(sampled) <= min(query.goals, query.samples)
    x0, x1, y0, y1 = query.scene.bounds
    for goal in sampled:
        assert goal.object == name
        assert x0 <= goal.x <= x1
        assert y0 <= goal.y <= y1
        assert abs(goal.yaw) <= 3.142
        assert 0 < goal.score <= 1
        assert (goal.x, goal.score) == (round(goal.x, 3), round(goal.score, 4))
    answer = Answer(id=0, objects=ranked, goals=sampled, versions={}, device="cpu", timing=Timing(0.0, 0.0, 0.0, 1))
    check_answer(msgspec.structs.replace(query, object=None), answer)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=queries(), data=st.data())
def test_the_order_of_movables_does_not_matter(
    objects: ServedObjectModel, goals: ServedGoalModel, query: Query, data: st.DataObject
) -> None:
    order = np.array(data.draw(st.permutations(range(len(query.scene.movables)))))
    other = permuted(query, order)
    before, after = ({each.name: each.score for each in objects.rank([each_query])[0]} for each_query in (query, other))
    assert before.keys() == after.keys()
    for name, score in before.items():
        assert after[name] == pytest.approx(score, abs=1.01e-4)
    name = query.reachable[0]
    assert goals.sample([(query, name)]) == goals.sample([(other, name)])


def test_the_seed_decides(goals: ServedGoalModel) -> None:
    query = example_queries(1)[0]
    other = msgspec.structs.replace(query, seed=query.seed + 1)
    name, another = query.reachable[:2]
    same, again, changed, moved = goals.sample([(query, name), (query, name), (other, name), (query, another)])
    assert same == again
    assert same != changed
    start = dict(zip((box.name for box in query.scene.movables), query.poses, strict=True))
    assert [goal.x - start[name][0] for goal in same] != [goal.x - start[another][0] for goal in moved]


def test_torchs_random_state_is_neither_used_nor_changed(models: Path, goals: ServedGoalModel) -> None:
    query = example_queries(1)[0]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = goals.sample([(query, query.reachable[0])])
    load_model(open_published(models, "goal"), "cpu")
    untrained(ARCHITECTURES["GoalModel"], 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert goals.sample([(query, query.reachable[0])]) == first


def test_as_many_samples_as_asked_for(goals: ServedGoalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The density is over all samples: with one sample it is 1."""
    query = msgspec.structs.replace(example_queries(1)[0], samples=1, goals=1)
    inner = msgspec.structs.replace(query, poses=((0.0, 0.0, 0.0),) * len(query.poses))
    seen: list[int] = []
    real = namo_models.goal_choice.choose

    def counting(poses: Any, bounds: Any, wanted: int) -> Any:
        seen.append(poses.shape[1])
        return real(poses, bounds, wanted)

    monkeypatch.setattr(namo_models.goal_choice, "choose", counting)
    pairs = [(msgspec.structs.replace(inner, samples=count), inner.reachable[0]) for count in (1, 7, 1024)]
    found = goals.sample(pairs)
    assert sorted(seen) == [1, 7, 1024]
    assert [goal.score for goal in found[0]] in ([], [1.0])


def test_more_samples_only_add() -> None:
    query = example_queries(1)[0]
    few, many = (namo_models._noise(msgspec.structs.replace(query, samples=n), "a") for n in (8, 32))
    np.testing.assert_array_equal(few, many[:8])


def test_two_scenes_of_different_geometry(objects: ServedObjectModel, goals: ServedGoalModel) -> None:
    """One process, one model: neither scene's size, walls nor names are left over for the other."""
    small, large = example_queries(2)
    wide = msgspec.structs.replace(
        large,
        scene=msgspec.structs.replace(large.scene, bounds=(-9.0, 9.0, -6.0, 6.0), walls=large.scene.walls[:1]),
    )
    scenes = (small, wide, large)
    ranked = [objects.rank([query])[0] for query in scenes]
    sampled = [goals.sample([(query, query.reachable[0])])[0] for query in scenes]
    assert ranked[1] != ranked[2]
    assert sampled[1] != sampled[2]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        batch = [scenes[i] for i in order]
        assert objects.rank(batch) == [ranked[i] for i in order]
        assert goals.sample([(query, query.reachable[0]) for query in batch]) == [sampled[i] for i in order]


def test_warm_up_leaves_answers_alone(objects: ServedObjectModel, goals: ServedGoalModel) -> None:
    query = example_queries(1)[0]
    before = objects.rank([query]), goals.sample([(query, query.reachable[0])])
    for size in (1, 5, 32, 100):
        objects.warm_up(size)
        goals.warm_up(size)
    assert (objects.rank([query]), goals.sample([(query, query.reachable[0])])) == before


@pytest.mark.parametrize(("max_batch", "warm"), [(1, 2), (2, 2), (3, 4), (32, 32), (500, 32)])
def test_warm_up_meets_every_shape(max_batch: int, warm: int) -> None:
    assert list(namo_models._sizes(max_batch)) == [size for size in BUCKETS if size <= warm]
    assert all(namo_models._bucket(size) in namo_models._sizes(max_batch) for size in range(1, min(max_batch, 32) + 1))


# --- what cannot be used ----------------------------------------------------------------------------------------


def test_the_wrong_kind(objects: ServedObjectModel, goals: ServedGoalModel) -> None:
    query = example_queries(1)[0]
    with pytest.raises(ModelError, match=r"object 000001.*expected a model of kind 'goal'.*found 'object'"):
        objects.sample([(query, query.reachable[0])])
    with pytest.raises(ModelError, match=r"goal 000001.*expected a model of kind 'object'.*found 'goal'"):
        goals.rank([query])


def test_an_object_of_another_scene(goals: ServedGoalModel) -> None:
    with pytest.raises(ModelError, match=r"expected an object among obstacle_1_movable.*found 'sofa'"):
        goals.sample([(example_queries(1)[0], "sofa")])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_that_gives_nan(tmp_path: Path, architecture: str) -> None:
    """Finite weights that overflow on the way."""
    network = untrained(ARCHITECTURES[architecture], 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e30)
    model = load_model(publish(network, "wild", tmp_path), "cpu")
    query = example_queries(1)[0]
    pair = query, query.reachable[0]
    ask = partial(model.rank, [query]) if model.info.kind == "object" else partial(model.sample, [pair])
    with pytest.raises(ModelError, match="gave NaN or infinity"):
        ask()


@pytest.mark.parametrize("device", ["", "cpu:7", "tpu", "cuda" if not torch.cuda.is_available() else "gpu"])
def test_devices(models: Path, device: str) -> None:
    with pytest.raises(ModelError, match=r"expected (device cpu or cuda|a CUDA device)"):
        load_model(open_published(models, "goal"), device)


def edited(models: Path, **changes: Any) -> PublishedModel:
    published = open_published(models, "goal")
    path = published.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return open_published(models, "goal")


def reweighted(models: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> PublishedModel:
    """The same manifest with other weights, with the right checksum."""
    published = open_published(models, "goal")
    weights = load(published.weights())
    change(weights)
    data = save(weights)
    (published.folder / WEIGHTS).write_bytes(data)
    return edited_bytes(models, published, data, sum(value.numel() for value in weights.values()))


def edited_bytes(models: Path, published: PublishedModel, data: bytes, parameters: int) -> PublishedModel:
    path = published.folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest |= {"bytes": len(data), "sha256": namo_models.hashlib.sha256(data).hexdigest(), "parameters": parameters}
    path.write_text(json.dumps(manifest))
    return open_published(models, "goal")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    publish(untrained(ARCHITECTURES["GoalModel"], 0), "goal", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "os.system"}, "expected an architecture among ObjectModel, GoalModel, found 'os.system'"),
        ({"architecture": "ObjectModel"}, "ObjectModel is of kind 'object', the manifest says 'goal'"),
        ({"kind": "object"}, "GoalModel is of kind 'goal', the manifest says 'object'"),
        ({"config": {"width": 1 << 20}}, "config does not fit GoalModel"),
        ({"config": {"width": -8}}, "config does not fit GoalModel"),
        ({"config": {"steps": 10**6}}, "config does not fit GoalModel"),
        ({"config": {"width": 16}}, "of shape (128, 92), found (128, 172)"),
        ({"config": {"layers": 3}}, "expects layers.2.bias of shape (128,), found None"),
        ({"config": {"layers": 1}}, "expects layers.1.bias of shape None, found (128,)"),
    ],
)
def test_a_manifest_that_does_not_fit(own: Path, changes: dict[str, Any], said: str) -> None:
    published = edited(own, **changes)
    with pytest.raises(ModelError) as error:
        load_model(published, "cpu")
    assert said in str(error.value)
    assert str(published.folder) in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop("leave.bias"), "expects leave.bias of shape (4,), found None"),
        (lambda weights: weights.update(more=torch.zeros(3)), "expects more of shape None, found (3,)"),
        (lambda weights: weights.update({"leave.bias": torch.zeros(5)}), "of shape (4,), found (5,)"),
        (lambda weights: weights["leave.bias"].fill_(math.nan), "found NaN or infinity in leave.bias"),
        (lambda weights: weights["enter.weight"].fill_(math.inf), "found NaN or infinity in enter.weight"),
    ],
)
def test_weights_that_do_not_fit(own: Path, change: Callable[[dict[str, torch.Tensor]], object], said: str) -> None:
    published = reweighted(own, change)
    with pytest.raises(ModelError) as error:
        load_model(published, "cpu")
    assert said in str(error.value)


def test_weights_damaged_after_they_were_opened(own: Path) -> None:
    published = open_published(own, "goal")
    (published.folder / WEIGHTS).write_bytes(b"half")
    with pytest.raises(ModelError, match="bytes, found 4"):
        load_model(published, "cpu")


def test_weights_are_not_published_with_nan(tmp_path: Path) -> None:
    network = untrained(ARCHITECTURES["ObjectModel"], 0)
    with torch.no_grad():
        network.get_parameter("head.layers.0.bias")[3] = math.nan
    with pytest.raises(ModelError, match=r"NaN in head\.layers\.0\.bias; not published"):
        publish(network, "object", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_configs_are_served(tmp_path: Path) -> None:
    torch.manual_seed(0)
    query = example_queries(1)[0]
    small = load_model(publish(ObjectModel(ObjectConfig(width=8, hidden=16)), "object", tmp_path), "cpu")
    assert small.info.parameters == small_parameters(ObjectModel(ObjectConfig(width=8, hidden=16)))
    assert small.rank([query])[0]
    deep = load_model(publish(GoalModel(GoalConfig(width=8, hidden=16, layers=4, steps=2)), "goal", tmp_path), "cpu")
    assert len(deep.sample([(query, query.reachable[0])])) == 1


def small_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
