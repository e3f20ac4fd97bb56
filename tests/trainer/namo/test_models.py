"""The models learn: a real training step, and what their losses ask for."""

from __future__ import annotations

import math

import numpy as np
import torch
from msgspec.structs import replace

from inference.warm_up import example_queries
from protocol.namo.masks import draw
from trainer.namo.architectures import ARCHITECTURES
from trainer.namo.goal_model import GOAL_CHANNELS, GoalConfig, GoalExamples, GoalModel
from trainer.namo.object_model import OBJECT_CHANNELS, ObjectConfig, ObjectExamples, ObjectModel
from trainer.namo.places import LOOKS, all_places, selected_places

COUNT = 8


def object_examples() -> ObjectExamples:
    queries = example_queries(COUNT)
    views = [query.view() for query in queries]
    places = all_places(views, COUNT, 10)
    rng = np.random.default_rng(0)
    reachable = torch.zeros(COUNT, 10, dtype=torch.bool)
    reachable[:, :6] = True
    wanted = torch.zeros(COUNT, 10)
    wanted[torch.arange(COUNT), torch.from_numpy(rng.integers(0, 6, COUNT))] = 1
    masks = torch.from_numpy(draw(views)[:, : len(OBJECT_CHANNELS)]).float()
    return ObjectExamples(masks, torch.from_numpy(places.points), torch.from_numpy(places.numbers), reachable, wanted)


def goal_examples() -> GoalExamples:
    queries = example_queries(COUNT)
    views = [query.view(query.reachable[0]) for query in queries]
    places = selected_places(views, COUNT)
    moves = np.random.default_rng(1).uniform((-1, -1, -1.5), (1, 1, 1.5), (COUNT, 3)).astype(np.float32)
    masks = torch.from_numpy(draw(views)[:, : len(GOAL_CHANNELS)]).float()
    return GoalExamples(
        masks, torch.from_numpy(places.points), torch.from_numpy(places.numbers), torch.from_numpy(moves)
    )


def test_the_object_model_learns_eight_examples() -> None:
    torch.manual_seed(0)
    model, examples = ObjectModel(ObjectConfig()), object_examples()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    first = float(model.loss(examples).detach())
    assert abs(first - math.log(6)) < 0.3  # it knows nothing yet: one of six
    for _ in range(80):
        optimizer.zero_grad()
        loss = model.loss(examples)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.1
    scores = model(examples.masks, examples.points, examples.numbers)
    assert (scores.masked_fill(~examples.reachable, -torch.inf).argmax(1) == examples.wanted.argmax(1)).all()


def test_the_goal_model_learns_eight_examples() -> None:
    """After it, samples lie near the one goal of each example: flow matching does what its name says."""
    torch.manual_seed(0)
    model, examples = GoalModel(GoalConfig()), goal_examples()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = model.loss(examples, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-50:]) < 0.35 * np.mean(losses[:5])
    with torch.no_grad():
        context = model.encode(examples.masks, examples.points, examples.numbers)
        noise = torch.randn(COUNT * 64, 4, generator=generator)
        found = model.sample(context.repeat_interleave(64, 0), noise).view(COUNT, 64, 3)
    error = (found[..., :2] - examples.moves[:, None, :2]).norm(dim=-1)
    untaught = (examples.moves[None, :, :2] - examples.moves[:, None, :2]).norm(dim=-1).sum() / (COUNT * (COUNT - 1))
    assert float(error.median()) < 0.4 * float(untaught)
    turn = (found[..., 2] - examples.moves[:, None, 2] + math.pi) % (2 * math.pi) - math.pi
    assert float(turn.abs().median()) < 0.4


def test_every_weight_takes_part() -> None:
    torch.manual_seed(0)
    objects, goals = ObjectModel(ObjectConfig()), GoalModel(GoalConfig())
    objects.loss(object_examples()).backward()  # type: ignore[no-untyped-call]
    goals.loss(goal_examples(), torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
    for model in (objects, goals):
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
            # A number added to all scores changes no softmax.
            assert float(parameter.grad.abs().max()) > 0 or name == "head.layers.4.bias", name


def test_what_cannot_be_reached_has_no_part_in_the_loss() -> None:
    torch.manual_seed(0)
    model, examples = ObjectModel(ObjectConfig()), object_examples()
    elsewhere = examples.numbers.clone()
    elsewhere[:, 6:] = 100.0
    changed = ObjectExamples(examples.masks, examples.points, elsewhere, examples.reachable, examples.wanted)
    assert torch.equal(model.loss(examples), model.loss(changed))


def test_places_lie_where_the_masks_show_the_object() -> None:
    """The centre and what is well inside of the corners is set in the selected movable's channel; outside is not."""
    views = [query.view(query.reachable[0]) for query in example_queries(COUNT)]
    places, masks = selected_places(views, COUNT), draw(views)
    for item in range(COUNT):
        centre = places.points[item, 0, 0]
        for look, point in zip(LOOKS, places.points[item, 0], strict=True):
            inside = abs(look).max() <= 1
            column, row = np.floor((centre + (0.6 if inside else 1) * (point - centre) + 1) / 2 * 64).astype(int)
            if 0 <= row < 64 and 0 <= column < 64:
                assert masks[item, 5, row, column] == inside


def test_a_movable_in_the_way_is_marked_by_its_turn() -> None:
    (query,) = example_queries(1)
    names = [box.name for box in query.scene.movables]
    told = replace(query, in_the_way=(names[4], names[1]))
    numbers = all_places([told.view()], 1, len(names)).numbers[0]
    assert numbers[:, 11].tolist() == [0, 0.5, 0, 0, 1, *[0] * (len(names) - 5)]
    assert selected_places([told.view(names[1])], 1).numbers[0, 0, 11] == 0.5
    untold = all_places([replace(query, in_the_way=()).view()], 1, len(names)).numbers[0]
    assert np.array_equal(numbers[:, :11], untold[:, :11])
    assert not untold[:, 11].any()


def test_sizes() -> None:
    """Small enough for a CPU."""
    sizes = {}
    for name, architecture in ARCHITECTURES.items():
        model = architecture.build(architecture.config())
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    assert sizes == {"ObjectModel": 100_865, "GoalModel": 154_004}
