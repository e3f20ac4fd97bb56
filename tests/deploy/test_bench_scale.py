"""`headrace bench scale`, small: every promise is kept among 300 producers, and a message costs the same among 1000."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench.scale import cost, scarce, story
from deploy.bench.scale.model import WORKLOADS, Machine, Workload, most
from deploy.bench.scale.settings import SPEC, Settings
from deploy.bench.scale.world import World
from deploy.main import main as headrace
from protocol.interval_set import IntervalSet
from protocol.sink_delivery import SinkDelivery

FEW, MANY = 100, 1000


def test_a_small_run_has_every_figure_and_keeps_every_promise(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    words = ["bench", "scale", "--producers", "300", "--only", "story", "scarce", "memory", "--json", str(out)]
    assert headrace(words) == 0
    document = json.loads(out.read_text())
    figures = {row["name"].removeprefix("scale."): row for row in document["figures"]}
    assert {name for name, row in figures.items() if row["bar"] is not None} == {
        "lost", "doubled", "fairness", "leased_again_s", "back_s", "back_hellos_each", "peak_credit_share",
        "scarce_fairness", "state_kb_each",
    }  # fmt: skip
    settings, seen = Settings(300), document["details"]["story"]
    assert seen["committed"] == settings.goal.end
    assert (seen["dead"], seen["zombies"]) == (30, 15)
    assert seen["zombie_indices"] > 0, "no zombie had anything that others had made, so nothing was tried"
    assert figures["leased_again_s"]["runs"][0] > settings.lease_s - settings.heartbeat_s - 1, "before the lease ended"
    assert figures["back_hellos_each"]["value"] >= 1
    assert seen["disk_share"] > 0.9, "the disk had time to spare, so nobody competed"
    assert figures["state_kb_each"]["value"] > 0.3


def test_the_same_seed_is_the_same_story() -> None:
    found = [story.tell(Settings(20, episodes=14, seed=seed), lambda _: None) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


def test_a_double_or_a_loss_is_seen() -> None:
    world = World(Settings(20, episodes=2))
    assert world.clock.run(100.0, world.all_gone)
    assert (world.lost(), world.disk.doubled) == (0, 0)
    del world.disk.durable[7]
    assert world.lost() == 1
    machine = SinkDelivery(world.sink.config, 9, world.clock.now)
    known = IntervalSet(sorted(world.disk.durable.keys() - {7, 8}))
    machine.stream_opened(world.clock.now, SPEC, known, known.copy())
    world.sink.machine = machine  # a sink that has forgotten that 8 is durable
    world.come()
    assert world.clock.run(world.clock.now + 100, world.all_gone)
    assert (world.lost(), world.disk.doubled) == (0, 1)


@pytest.mark.parametrize("producers", [40, 200])
def test_scarce_leases_go_round(producers: int) -> None:
    granted = scarce.leases_each(producers, seed=1)
    assert max(granted) - min(granted) <= 3
    assert story.jain(granted) > 0.95


def test_a_message_costs_the_same_among_ten_times_as_many() -> None:
    few, many = (cost.measure(producers, messages=8_000, repeats=5) for producers in (FEW, MANY))
    assert min(few.messages, many.messages) > 5_000
    assert min(few.episodes, many.episodes) > 200
    # Anything that walks over the producers at each message makes it about ten times as much.
    assert many.us_a_message < 2.5 * few.us_a_message, (few, many)


def test_the_table_of_predictions_is_what_the_model_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, text = tmp_path / "plot.png", (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    assert headrace(["bench", "scale", "--only", "model", "--plot", str(plot)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    for work in WORKLOADS:
        limits = list(most(work, Machine()).items())
        secured = next(iter(most(work, Machine(curve=True)).items()))
        row = [
            work.name,
            f"{work.bytes / work.episode_s / 1e6:.2f}",
            *(f"{name} {number}" for name, number in (*limits[:3], secured)),
        ]
        assert f"| {' | '.join(row)} |" in text
        assert work.name in said


def test_what_ends_first_follows_from_the_costs() -> None:
    work = Workload("w", episode_s=1.0, frames=10, frame_bytes=100e3, other_bytes=0.0, window=1 << 20)
    assert (work.bytes, work.messages) == (1e6, 4)
    assert most(work, Machine())["network"] == 2937
    slow_disk = most(work, Machine(disk=50e6))
    assert next(iter(slow_disk.items())) == ("disk", 49)
    assert most(work, Machine(memory=2**30))["memory"] == 744
    assert next(iter(most(work, Machine(curve=True)))) == "zmq thread"


@pytest.mark.parametrize(
    ("words", "why"),
    [(["--producers", "19"], "expected at least 20"), (["--only", "speed"], "--only takes story, scarce, memory")],
)
def test_wrong_flags(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert headrace(["bench", "scale", *words]) == 1
    assert why in capsys.readouterr().err
