"""Batch scripts without a cluster: what a topology says is quoted or refused, and --print-only does nothing else."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deploy.main import main
from deploy.record import Record, SubmittedJob, only_one, read_record, write_record
from deploy.slurm import client
from deploy.slurm.plan import Plan, placeholder_ids, plan_jobs
from deploy.status import advice_of
from deploy.topology import Topology, absolute, read_topology
from protocol.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "slurm.example.toml"
FLYWHEEL = EXAMPLE.with_name("flywheel.example.toml")
HOME = Path("/home/me")


def scripts(plan: Plan) -> dict[str, str]:
    """All scripts by name."""
    return {job.name: plan.script(job, placeholder_ids(plan)) for job in plan.jobs}


def plan_of(path: Path) -> Plan:
    """As submitted from a home directory."""
    return plan_jobs(absolute(read_topology(path), HOME), HOME)


def check_syntax(script: str) -> None:
    """bash can read it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{script}"


def directives(script: str) -> list[str]:
    """The options that sbatch reads from a script."""
    return [line.removeprefix("#SBATCH ") for line in script.split("\n") if line.startswith("#SBATCH ")]


def test_the_example_becomes_jobs_that_depend_on_each_other() -> None:
    plan = plan_of(EXAMPLE)
    assert [job.name for job in plan.jobs] == ["servers", "producers-0", "producers-1", "end"]
    ids = {"servers": "7", "producers-0": "8", "producers-1": "9"}
    assert [job.dependency(ids) for job in plan.jobs] == [None, "after:7", "after:7", "afterany:8:9"]
    found = scripts(plan)
    for script in found.values():
        check_syntax(script)
    servers = directives(found["servers"])
    assert {"--job-name=two_arms-servers", "--partition=long", "--account=robotics", "--time=48:00:00"} <= set(servers)
    assert {"--signal=B:TERM@60", "--requeue", "--open-mode=append", "--cpus-per-task=2"} <= set(servers)
    assert f"--output={HOME}/runs/two_arms.collection/logs/servers-%j.log" in servers
    assert f"--announce {HOME}/runs/two_arms.collection/sink.json" in found["servers"]
    producers = found["producers-1"]
    wanted = {"--array=0-31%16", "--cpus-per-task=4", "--mem=8192M", "--partition=cpu", "--exclude=n13", "--requeue"}
    assert "--signal=B:TERM@120" in directives(producers), "while the sink is still there"
    assert wanted <= set(directives(producers))
    assert "\nmodule load mesa\nexport MUJOCO_GL=egl\n" in producers
    assert "\nexport OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1\n" in producers
    assert '\nexport HEADRACE_NAME=producers-1."$SLURM_ARRAY_TASK_ID"\n' in producers
    command = shlex.split(producers.rstrip().splitlines()[-1])
    assert command[:5] == ["exec", sys.executable, "-m", "deploy.main", "produce"]
    assert command[command.index("--sink") + 1] == f"{HOME}/runs/two_arms.collection/sink.json"
    assert command[command.index("--key") + 1] == f"{HOME}/runs/two_arms.keys/clients/cluster.key"
    assert "scancel --quiet --batch --signal=TERM ID_OF_SERVERS" in found["end"]


def test_inference_and_sink_share_a_job_and_trainers_go_on() -> None:
    plan = plan_of(FLYWHEEL)
    assert [job.name for job in plan.jobs] == [
        "servers", "train-object", "train-goal", "producers-0", "producers-1", "end",
    ]  # fmt: skip
    found = scripts(plan)
    for script in found.values():
        check_syntax(script)
    assert "models init --models /home/me/runs/flywheel_models || exit 1" in found["servers"]
    assert "--inference /home/me/runs/flywheel.collection/inference.json" in found["producers-0"]
    assert "--inference" not in found["producers-1"]
    assert found["train-goal"].rstrip().splitlines()[-3].endswith("--threads 1 --resume")
    stopped = re.findall(r"TERM (\S+)", found["end"])
    assert stopped == ["ID_OF_TRAIN_OBJECT", "ID_OF_TRAIN_GOAL", "ID_OF_SERVERS"], "the sink goes last"


def servers_with_stand_ins(tmp_path: Path) -> subprocess.Popen[str]:
    """The script of both servers itself, with programs in place of ours that say what they get."""
    stand_in = tmp_path / "headrace"
    stand_in.write_text(
        '#!/bin/bash\nname=$3; trap \'echo "$name stops"; exit 7\' TERM\n'
        'echo "$name starts $$"; while :; do sleep 0.05; done\n'
    )
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "scontrol $@"\n')
    for program in (stand_in, tmp_path / "scontrol"):
        program.chmod(0o755)
    (tmp_path / "models").mkdir(exist_ok=True)
    text = f'[sink]\ndata = "{tmp_path}/d"\n[inference]\nmodels = "{tmp_path}/models"\n'
    text += f'[[producers]]\nsimulator = "namo"\n[slurm]\npython = "{stand_in}"\n'
    (tmp_path / "t.toml").write_text(text)
    script = scripts(plan_of(tmp_path / "t.toml"))["servers"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "12"}
    return subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True, env=environment)


def started(job: subprocess.Popen[str]) -> dict[str, int]:
    """Wait for both servers; their process ids."""
    assert job.stdout is not None
    words = [job.stdout.readline().split() for _ in range(2)]
    assert sorted(word[:2] for word in words) == [["infer", "starts"], ["sink", "starts"]]
    return {word[0]: int(word[2]) for word in words}


def test_the_job_of_both_servers_stops_the_sink_first_and_has_its_status(tmp_path: Path) -> None:
    with servers_with_stand_ins(tmp_path) as job:
        started(job)
        job.terminate()
        assert job.communicate(timeout=30)[0].splitlines() == ["sink stops", "infer stops"]
    assert job.returncode == 7


def test_the_job_of_a_sink_that_is_killed_is_requeued_one_that_fails_is_not(tmp_path: Path) -> None:
    with servers_with_stand_ins(tmp_path) as job:
        os.kill(started(job)["sink"], signal.SIGKILL)
        assert job.communicate(timeout=30)[0].splitlines() == ["infer stops", "scontrol requeue 12"]
    assert job.returncode == 128 + signal.SIGKILL
    with servers_with_stand_ins(tmp_path) as job:
        os.kill(started(job)["sink"], signal.SIGTERM)  # the sink alone: it ends with a status, and says why
        assert job.communicate(timeout=30)[0].splitlines() == ["sink stops", "infer stops"]
    assert job.returncode == 7


# --- nothing of a user's reaches a shell unquoted ---------------------------------------------------------------------

nasty = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(str.strip)
MARK = "HARM"
HARM = f"'; $(echo {MARK}) `echo {MARK}` \"\n echo {MARK} #"


def words_that_run(script: str) -> list[str]:
    """What bash would execute, one word a line: the last command, with a function in place of exec."""
    body = script.replace("\nexec ", "\nshow ")
    shown = subprocess.run(
        ["bash", "-c", 'show() { printf "%s\\0" "$@"; }\n' + body],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "4"},
    )
    return shown.stdout.decode().split("\0")[:-1]


@settings(max_examples=25, deadline=None)
@given(value=nasty, program=st.lists(nasty, min_size=1, max_size=3))
@example(value=HARM, program=[HARM])
def test_flags_and_programs_arrive_as_they_were_written(value: str, program: list[str]) -> None:
    base = {"sink": {"data": "/d"}}
    simulator = {"simulator": "robosuite", "flags": {"env": value}}
    topology = msgspec.convert({**base, "producers": [simulator, {"program": program}]}, Topology)
    found = scripts(plan_jobs(topology, HOME))
    for script in found.values():
        check_syntax(script)
    words = words_that_run(found["producers-0"])
    assert words[words.index("--env") + 1] == value
    assert words_that_run(found["producers-1"]) == program


@settings(max_examples=60, deadline=None)
@given(folder=nasty, cwd=nasty)
@example(folder=HARM, cwd="a b")
@example(folder="a b", cwd="#c; d")
def test_folders_are_quoted_or_refused(folder: str, cwd: str) -> None:
    assume("/" not in folder and "/" not in cwd)
    topology = msgspec.convert(
        {"sink": {"data": "/d"}, "shared": {"folder": f"/{folder}"}, "producers": [{"simulator": "namo"}]}, Topology
    )
    if "%" in folder or re.search(r"[\x00-\x1f\x7f'\\]", folder + cwd):
        with pytest.raises(ConfigurationError, match="rename the folder"):
            plan_jobs(topology, HOME / cwd)
        return
    script = scripts(plan_jobs(topology, HOME / cwd))["producers-0"]
    check_syntax(script)
    for line in directives(script):
        assert len(shlex.split(line)) == 1, "one option, whatever is in it"
    assert f"--chdir={HOME / cwd}" in map("".join, map(shlex.split, directives(script)))
    words = words_that_run(script)
    assert words[words.index("--sink") + 1] == f"{Path('/') / folder}/sink.json"


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint"])
@settings(max_examples=30, deadline=None)
@given(value=nasty)
@example(value=HARM)
@example(value="gpu cpu")
def test_names_for_slurm_are_plain_words(key: str, value: str) -> None:
    found = {"sink": {"data": "/d"}, "slurm": {key: value}, "producers": [{"simulator": "namo"}]}
    if re.fullmatch(r"[A-Za-z0-9_.,:@/+-]+", value):
        assert f"--{key}={value}" in scripts(plan_jobs(msgspec.convert(found, Topology), HOME))["servers"]
    elif key != "constraint" or not re.fullmatch(r"[A-Za-z0-9_.,:@/+&|*()\[\]-]+", value):
        with pytest.raises(msgspec.ValidationError, match=rf"\$\.slurm\.{key}"):
            msgspec.convert(found, Topology)


# --- the command ------------------------------------------------------------------------------------------------------


def test_print_only_prints_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # without sbatch
    assert main(["submit", str(EXAMPLE), "--slurm", "--print-only"]) == 0
    said = capsys.readouterr().out
    commands = [line for line in said.splitlines() if line.startswith("# sbatch")]
    assert len(commands) == 4
    assert commands[1].startswith("# sbatch --parsable --dependency=after:ID_OF_SERVERS ")
    assert list(tmp_path.iterdir()) == []


def test_without_sbatch_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", str(EXAMPLE), "--slurm"]) == 1
    assert "there is no sbatch on this machine; submit from a login node" in capsys.readouterr().err
    assert main(["submit", str(EXAMPLE)]) == 1
    assert "expected one engine" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_shared_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "file").touch()
    topology = tmp_path / "t.toml"
    topology.write_text(
        f'[sink]\ndata = "{tmp_path}/d"\n[shared]\nfolder = "{tmp_path}/file/x"\n[[producers]]\nsimulator = "namo"\n'
    )
    assert main(["submit", str(topology), "--slurm"]) == 1
    assert f"cannot use the shared folder {tmp_path}/file/x: Not a directory; expected" in capsys.readouterr().err


def test_what_slurm_says_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def says(text: str) -> str:
        (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho {shlex.quote(text)} >&2\nexit 1\n")
        (tmp_path / "sbatch").chmod(0o755)
        with pytest.raises(client.SlurmError) as caught:
            client.submit("x.sh", None)
        return str(caught.value)

    expired = "Batch job submission failed: Invalid account or account/partition combination specified"
    assert "has its allocation not expired?" in says(f"sbatch: error: {expired}")
    policy = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)"
    assert "perhaps its allocation is used up" in says(f"sbatch: error: {policy}").lower()
    assert "is Slurm's controller up?" in says("sbatch: error: Unable to contact slurm controller (connect failure)")
    assert says("sbatch: error: something new") == "sbatch: something new"


def test_a_record_is_whole_or_refused_and_changed_by_one_at_a_time(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    job = SubmittedJob("producers-0", "producers", "12", 6, "x.log")
    record = Record("slurm", "two_arms", 3, "/t.toml", "/d", 1.5, (job,))
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["submission.json"], "no draft is left"
    (tmp_path / "submission.json").write_text("{")
    with pytest.raises(ConfigurationError, match="expected a record of `headrace submit`"):
        read_record(tmp_path)
    locked = f"import deploy.record, pathlib; deploy.record.only_one(pathlib.Path({str(tmp_path)!r})).__enter__()"
    with only_one(tmp_path):
        other = subprocess.run([sys.executable, "-c", locked], capture_output=True, text=True, check=False)
        assert "another `headrace submit` or `cancel` is at work" in other.stderr
    assert subprocess.run([sys.executable, "-c", locked], check=False).returncode == 0


def test_status_says_what_to_do_about_jobs_that_ended_badly() -> None:
    jobs = [SubmittedJob(name, "producers", name, 1, f"{name}.log") for name in ("late", "broken", "poor", "asked")]
    tasks = [
        client.TaskState("late", 0, "TIMEOUT"),
        client.TaskState("broken", 0, "FAILED", exit_status=1),
        client.TaskState("poor", 0, "PENDING", reason="AssocGrpCPUMinutesLimit"),
        client.TaskState("asked", 0, "FAILED", exit_status=130),
    ]
    late, broken, poor = advice_of(jobs, tasks)
    assert late.startswith("late ran into its time limit; submit again")
    assert broken.startswith("broken failed, see broken.log")
    assert "perhaps its allocation has expired" in poor
