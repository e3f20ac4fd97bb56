"""Training and validation never share an environment, however much is collected later."""

from __future__ import annotations

import msgspec
import numpy as np

from tests.trainer.namo.searches import Push, room, search_of
from trainer.namo.examples import ExampleStore, ObjectExample, object_examples
from trainer.namo.searches import environment_of, in_validation

SHARE = 0.3


def test_an_environment_is_walls_and_movables() -> None:
    scene = room()
    assert environment_of(msgspec.structs.replace(scene, name="x", robot=(0.0, 1.0), goal=(1.0, 0.0))) == (
        environment_of(scene)
    )
    assert environment_of(room(1)) != environment_of(scene)


def test_the_share_is_met_and_a_larger_one_contains_a_smaller_one() -> None:
    environments = [environment_of(room(number)) for number in range(400)]
    chosen = np.array([in_validation(each, SHARE) for each in environments])
    assert 0.2 < chosen.mean() < 0.4
    larger = np.array([in_validation(each, 0.6) for each in environments])
    assert (larger | ~chosen).all()


def test_parts_are_disjoint_stable_and_bounded() -> None:
    pushes = [Push(-1, 0), Push(-1, 1, opens=True)]
    store: ExampleStore[ObjectExample] = ExampleStore(SHARE, most=20)
    where: dict[bytes, bool] = {}
    for turn in range(2):
        for number in range(60):
            search = search_of(pushes, room(number))
            sizes = len(store.training), len(store.validation)
            (example,) = object_examples(search)
            store.add(("namo/hand", number), search.environment, [example])
            validation = any(each is example for each in store.validation)
            assert validation is not any(each is example for each in store.training)
            assert where.setdefault(search.environment, validation) is validation, (turn, number)
            assert (len(store.training), len(store.validation)) >= sizes
    assert store.added == 120
    assert (len(store.training), len(store.validation)) == (14, 6)


def test_what_is_withdrawn_leaves_its_part_and_the_rest_stays() -> None:
    store: ExampleStore[ObjectExample] = ExampleStore(SHARE, most=200)
    examples = {}
    for number in range(40):
        search = search_of([Push(-1, 0), Push(-1, 1, opens=True)], room(number))
        examples[number] = object_examples(search)[0]
        store.add(("namo/hand", number), search.environment, [examples[number]])
    parts, changes = (list(store.training), list(store.validation)), store.validation_changes
    out = {number for number, each in examples.items() if any(each is other for other in parts[1])}
    in_training = next(number for number in examples if number not in out)
    assert store.withdraw({("namo/hand", in_training), ("namo/other", 0)}) == 1
    assert store.validation_changes == changes
    assert [id(e) for e in store.training] == [id(e) for e in parts[0] if e is not examples[in_training]]
    assert store.withdraw({("namo/hand", number) for number in out}) == len(out) > 0
    assert (len(store.training), len(store.validation)) == (len(parts[0]) - 1, 0)
    assert store.validation_changes > changes
