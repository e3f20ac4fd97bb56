"""Collections on a real Slurm: nodes die, time runs out, users cancel; every index is stored exactly once."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence

from deploy.record import read_record
from deploy.slurm.client import ENDED
from protocol.announcement import read_announcement
from tests.fakes import counting_spec, first_successes
from tests.processes import wait_until
from tests.slurm.mini import MiniSlurm
from tests.slurm.submitted import Submitted


def nodes(slurm: MiniSlurm) -> dict[str, str]:
    """Where each running job or task is, by its id."""
    lines = slurm.run("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i %N").splitlines()
    return dict(line.split() for line in lines)


def lose_node(slurm: MiniSlurm, name: str) -> list[str]:
    """Kill it with all that runs there, and let Slurm know; returns the jobs that it requeues, to begin at once.

    Slurm would find out by itself after SlurmdTimeout, and lets requeued jobs wait for two minutes.
    """
    before = restarted(slurm)
    lost = [job for job, node in nodes(slurm).items() if node == name]
    slurm.kill_node(name)
    slurm.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")

    def begun() -> bool:
        states, times = slurm.states(), restarted(slurm)
        return all(states[job] == "RUNNING" and times.get(job, 0) > before.get(job, 0) for job in lost)

    wait_without_delay(slurm, lost, begun)
    return lost


def wait_without_delay(slurm: MiniSlurm, jobs: Sequence[str], begun: Callable[[], bool]) -> None:
    """Until requeued jobs have begun again, without the two minutes of delay that Slurm gives them.

    A short one stays: for a moment a node takes the new life of a job for the old one, which it was told to end.
    """

    def look() -> bool:
        for job in jobs:
            if slurm.starts_in(job) > 10:
                slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now+4seconds", check=False)
        return begun()

    wait_until(look, f"{', '.join(jobs)} begin again", 60)


def restarted(slurm: MiniSlurm) -> dict[str, int]:
    """How often each job or task was begun again, of those that were."""
    lines = slurm.run("squeue", "--noheader", "--array", "--states=all", "--Format=JobArrayID:.|,RestartCnt:.|")
    counts = {line.split("|")[0]: int(line.split("|")[1]) for line in lines.splitlines()}
    return {job: count for job, count in counts.items() if count}


def wait_until_over(submitted: Submitted, jobs: dict[str, str]) -> None:
    """Until no job of it is left; a job that Slurm has forgotten has ended."""

    def over() -> bool:
        states = submitted.slurm.states().items()
        return all(state in ENDED - {"COMPLETING"} for job, state in states if job.split("_")[0] in jobs.values())

    wait_until(over, f"the collection ends by itself; logs:\n{submitted.logs()}", 180)


def test_nodes_die_and_every_index_is_stored_exactly_once(slurm: MiniSlurm, submitted: Submitted) -> None:
    goal = 250
    submitted.write(successes=goal, step_s=0.05)
    jobs = submitted.submit()
    assert list(jobs) == ["servers", "producers-0", "end"]
    submitted.wait_for_episodes(10)
    where = nodes(slurm)
    sink = where[jobs["servers"]]
    others = {node for job, node in where.items() if job.startswith(jobs["producers-0"]) and node != sink}
    lost = lose_node(slurm, max(others))
    assert lost
    assert jobs["servers"] not in lost
    slurm.restore_node(max(others))
    lost += lose_node(slurm, sink)
    assert jobs["servers"] in lost
    slurm.restore_node(sink)
    wait_until_over(submitted, jobs)
    checked = submitted.checked()
    assert checked.successes == list(first_successes(counting_spec(), goal))
    assert set(checked.indices) >= set(range(max(checked.successes)))
    assert set(lost) <= set(restarted(slurm)), "Slurm has begun them again"
    names = {stored.producer for stored in checked.stored.values()}
    assert names <= {f"producers-0.{task}" for task in range(6)}, "a worker is known by its place in the array"
    announced = read_announcement(submitted.folder / "sink.json")
    assert announced.generation == 2, "its second life"
    assert announced.stopped is not None, "the last job has let the sink drain"


def test_a_sink_that_is_killed_begins_again(slurm: MiniSlurm, submitted: Submitted) -> None:
    submitted.write(successes=40, step_s=0.05)
    jobs = submitted.submit()
    submitted.wait_for_episodes(10)
    announced = submitted.folder / "sink.json"
    os.kill(read_announcement(announced).pid, signal.SIGKILL)
    wait_without_delay(slurm, [jobs["servers"]], lambda: read_announcement(announced).generation == 2)
    wait_until_over(submitted, jobs)
    assert restarted(slurm)[jobs["servers"]] == 1
    assert submitted.checked().successes == list(first_successes(counting_spec(), 40))


def test_the_signal_before_the_time_limit_drains(slurm: MiniSlurm, submitted: Submitted) -> None:
    submitted.write(successes=100_000)
    jobs = submitted.submit()
    submitted.wait_for_episodes(10)
    submitted.wait_for_producers(6)
    # Producers get the signal 120 s before the limit; Slurm looks every half minute, and must have more than that left.
    minutes = math.ceil((slurm.longest_run_s() + 45) / 60)
    for name in ("producers-0", "servers"):
        slurm.run("scontrol", "update", f"JobId={jobs[name]}", f"TimeLimit={minutes}")
    wait_until_over(submitted, jobs)
    said = submitted.logs()
    assert "TIMEOUT" not in slurm.states().values()
    assert said.count("stopped on request") == 6
    assert "stopped; every acknowledged episode is in" in said
    left = [int(line.split("left after ")[1].split()[0]) for line in said.splitlines() if "left after" in line]
    checked = submitted.checked()
    assert 10 <= sum(left) <= len(checked.indices), "what was acknowledged is stored"
    states = {job["name"]: {task["state"] for task in job["tasks"]} for job in submitted.status()["jobs"]}
    assert states["producers-0"] == {"STOPPED"}
    assert states["servers"] == {"COMPLETED"}


def test_status_a_second_submission_and_cancel(slurm: MiniSlurm, submitted: Submitted) -> None:
    submitted.write(successes=100_000, step_s=0.05)
    jobs = submitted.submit()
    submitted.wait_for_episodes(10)
    submitted.wait_for_producers(6)
    assert slurm.states()[jobs["end"]] == "PENDING"

    found = submitted.status()
    assert (found["name"], found["generation"], found["live"]) == ("counting", 1, True)
    tasks = {job["name"]: job["tasks"] for job in found["jobs"]}
    assert [task["state"] for task in tasks["servers"]] == ["RUNNING"]
    assert sorted(task["task"] for task in tasks["producers-0"]) == list(range(6))
    assert found["progress"]["source"].startswith("the sink at 127.0.0.1:")
    (stream,) = found["progress"]["streams"]
    assert (stream["name"], stream["goal"]) == ("tests/counting", 100_000)
    assert stream["episodes"] >= 1
    assert stream["per_hour"] > 0
    assert "producers-0.3" in found["progress"]["producers"]
    shown = submitted.headrace("status", str(submitted.file))
    assert "6 RUNNING" in shown
    assert " of 100000 successes" in shown

    refused = submitted.headrace("submit", str(submitted.file), "--slurm", status=1)
    assert f"job {jobs['servers']}, {jobs['producers-0']}, {jobs['end']}" in refused
    assert "headrace cancel" in refused

    said = submitted.headrace("cancel", str(submitted.file))
    assert "producers: asked 6 to stop" in said
    assert "every acknowledged episode is in" in said
    logs = submitted.logs()
    left = [int(line.split("left after ")[1].split()[0]) for line in logs.splitlines() if "left after" in line]
    assert len(left) == 6
    assert sum(left) == len(submitted.checked().indices)
    after = submitted.status()
    assert not after["live"]
    assert after["progress"]["source"] == str(submitted.data), "no sink is there to be asked"
    assert after["progress"]["streams"][0]["episodes"] == sum(left)
    assert "nothing of counting is left" in submitted.headrace("cancel", str(submitted.file))

    again = submitted.submit()
    record = read_record(submitted.folder)
    assert record is not None
    assert record.generation == 2
    submitted.wait_for_episodes(sum(left) + 5)
    assert "ended;" in submitted.headrace("cancel", str(submitted.file), "--now")
    assert all(state in ENDED for job, state in slurm.states().items() if job.split("_")[0] in again.values())
    submitted.checked()


def test_what_slurm_refuses_is_one_sentence_and_nothing_is_left(slurm: MiniSlurm, submitted: Submitted) -> None:
    submitted.write(successes=5, partition="fast")
    before = set(slurm.states())
    said = submitted.headrace("submit", str(submitted.file), "--slurm", status=1)
    assert "invalid partition" in said
    assert "`sinfo` lists them" in said
    assert set(slurm.states()) == before
    missing = submitted.headrace("status", str(submitted.file), status=1)
    assert "nothing of" in missing
