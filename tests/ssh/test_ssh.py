"""Collections over a real ssh: a machine dies, the user cancels; every index is stored exactly once."""

from __future__ import annotations

import getpass
import json
import socket
import stat
from pathlib import Path

from deploy.record import read_record
from tests.fakes import CheckingReader, counting_spec, first_successes
from tests.processes import wait_until
from tests.ssh.collected import Collected
from tests.ssh.machines import CHANGED, CLOSED, EMPTY, GOOD, LOCKED, OLD, SKEWED, UNKNOWN, Machines

PRODUCERS = {f"producers-0.{number}" for number in range(4)}


def test_a_machine_dies_and_every_index_is_stored_exactly_once(machines: Machines, collected: Collected) -> None:
    goal = 80
    collected.write(successes=goal, step_s=0.05)
    first, second, third = GOOD
    assert f"{first}: sink" in collected.submit(*GOOD)
    data = collected.workdir(first) / "the data"
    collected.wait_for_episodes(data, 5)
    assert machines.kill(third)
    carried = [
        collected.workdir(second) / name for name in ("keys/clients/producers.key", "the data.collection/sink.json")
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in carried] == [0o600, 0o600]
    assert not (collected.workdir(second) / "keys" / "sink.key").exists(), "only what producers need"
    secret = json.loads(carried[0].read_text())["secret"].encode()
    assert all(secret not in line for line in command_lines())

    wait_until(lambda: len(CheckingReader(data).successes) >= goal, "the others go on", 60)
    record = read_record(collected.root / "the data.collection")
    assert record is not None
    where = {job.name: job.id for job in record.jobs}
    assert where.pop("sink") == first
    assert set(where) == PRODUCERS
    assert {second, third} <= set(where.values())
    lost = {name for name, host in where.items() if host == third}
    ended = [
        collected.workdir(where[name]) / "the data.collection" / "run" / f"{name}.exit" for name in PRODUCERS - lost
    ]
    wait_until(lambda: all(path.exists() for path in ended), "and end")
    checked = CheckingReader(data)
    assert checked.successes == list(first_successes(counting_spec(), goal))
    assert set(checked.indices) >= set(range(max(checked.successes)))
    assert {stored.producer for stored in checked.stored.values()} <= PRODUCERS
    shown = collected.headrace("status", str(collected.file))
    for name in lost:
        assert f"{name} on {third} was killed" in shown
    assert f"{second}  {len([name for name in where if where[name] == second])} ended" in shown
    assert f"tests/counting: {goal} successes" in shown

    known = machines.root / "known_hosts"
    without = collected.root / "known_hosts"
    without.write_text("".join(line for line in known.read_text().splitlines(True) if third not in line))
    text = collected.file.read_text()
    collected.file.write_text(text.replace(str(known), str(without)))
    silent = collected.headrace("cancel", str(collected.file), status=1)
    assert silent.startswith(f"headrace cancel: {third}: its host key is not known here")
    assert silent.endswith("what runs there goes on, cancel again when it answers\n")
    assert not machines.processes(), "the others have ended, the sink last"
    collected.file.write_text(text)
    assert collected.states() == {"sink": "stopped"} | {name: "lost" if name in lost else "ended" for name in where}


def test_status_a_second_submission_and_cancel(machines: Machines, collected: Collected) -> None:
    collected.write(successes=100_000, step_s=0.05, count=2, more="shared = true\nservers = 'here'")
    collected.submit(*GOOD[:2])
    data, folder = collected.root / "the data", collected.root / "the data.collection"
    names = {"producers-0.0", "producers-0.1"}
    wait_until(lambda: collected.producers_of(data) == names, "each has stored something", 60)

    found = collected.status()
    assert (found["engine"], found["generation"], found["live"]) == ("ssh", 1, True)
    assert {(job["name"], job["host"], job["state"]) for job in found["jobs"]} == {
        ("sink", "here", "running"),
        ("producers-0.0", GOOD[0], "running"),
        ("producers-0.1", GOOD[1], "running"),
    }
    assert found["progress"]["source"].startswith("the sink at 127.0.0.1:")
    assert set(found["progress"]["producers"]) == names
    refused = collected.submit(*GOOD[:2], status=1)
    assert "this collection runs already: " in refused
    assert "sink on here" in refused
    assert "end it with: headrace cancel" in refused

    said = collected.headrace("cancel", str(collected.file))
    assert "producers: asked 2 to stop\nservers: asked 1 to stop\nended; " in said
    logs = "\n".join(path.read_text() for path in sorted((folder / "logs").glob("producers*")))
    left = [int(line.split("left after ")[1].split()[0]) for line in logs.splitlines() if "left after" in line]
    assert len(left) == 2
    assert sum(left) == len(CheckingReader(data).indices)
    assert set(collected.states().values()) == {"stopped"}
    again = collected.headrace("cancel", str(collected.file))
    assert "nothing of counting runs on here, 127.0.0.1, 127.0.0.2" in again

    collected.submit(*GOOD[:2])
    record = read_record(folder)
    assert record is not None
    assert record.generation == 2
    collected.wait_for_episodes(data, sum(left) + 5)
    assert "producers: ended 2" in collected.headrace("cancel", str(collected.file), "--now")
    assert not machines.processes()
    CheckingReader(data)


def test_each_host_that_cannot_be_used_is_one_sentence_and_nothing_starts(
    machines: Machines, collected: Collected
) -> None:
    collected.write(successes=5, more="workdir = 'elsewhere'")
    text = collected.file.read_text().replace("connect_timeout_s = 5", "connect_timeout_s = 3")
    collected.file.write_text(text)
    with socket.create_server(("127.0.0.11", machines.port)):  # takes connections and says nothing
        bad = (CLOSED, UNKNOWN, CHANGED, LOCKED, EMPTY, SKEWED, OLD, "127.0.0.11")
        said = collected.submit(GOOD[0], *bad, status=1)
    lines = said.removeprefix("headrace submit: ").splitlines()
    assert [line.partition(": ")[0] for line in lines] == list(bad)
    expected = {
        CLOSED: "cannot be reached (ssh: connect to host 127.0.0.4 port",
        UNKNOWN: f"its host key is not known here; connect once by hand, `ssh -p {machines.port} {UNKNOWN}`",
        CHANGED: f"is not the one that is known. If that machine was set up anew, `ssh-keygen -R '[{CHANGED}]",
        LOCKED: f"it takes none of our ssh keys ({getpass.getuser()}@{LOCKED}: Permission denied (publickey).); put",
        EMPTY: "there is no ~/bin/headrace that can be run",
        SKEWED: "~/bin/headrace there is release 9.9.9, here it is ",
        OLD: "~/bin/headrace there is an older release than this one",
        "127.0.0.11": "cannot be reached (Connection to 127.0.0.11 port ",
    }
    for line in lines:
        host, _, why = line.partition(": ")
        assert expected[host] in why, line
    assert not machines.processes()
    assert not list(machines.root.glob("home*/elsewhere")), "nothing was written"
    assert read_record(collected.root / "the data.collection") is None
    assert "nothing of" in collected.headrace("status", str(collected.file), status=1)


def test_servers_that_do_not_start_take_all_back(machines: Machines, collected: Collected) -> None:
    collected.write(successes=5, more="workdir = '~/never'")
    collected.file.write_text(collected.file.read_text().replace("lease-s = 2.0", "lease-s = -1.0"))
    shown = collected.headrace("submit", str(collected.file), "--hosts", GOOD[0], "--print-only")
    assert shown.startswith("# sink on 127.0.0.1, kept running by tmux\n#!/bin/sh\n")
    assert "# producers-0.3 on 127.0.0.1" in shown
    assert not (machines.home(GOOD[0]) / "never").exists()
    said = collected.submit(GOOD[0], status=1)
    assert "127.0.0.1: sink ended at once; its log " in said
    assert "lease-s" in said
    assert not machines.processes()


def command_lines() -> list[bytes]:
    """Of everything that runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found
