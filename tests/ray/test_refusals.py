"""What a cluster cannot do is one sentence at once, and nothing is left behind."""

from __future__ import annotations

import re
import socket

from tests.ray.mini import CPUS
from tests.ray.submitted import PRODUCERS, Submitted

# As it would be if this Ray were another release than that of the cluster.
OTHER_RELEASE = """
import sys, ray
ray.__version__ = "2.0.0"
from deploy.main import main
sys.exit(main(sys.argv[1:]))
"""


def refused(submitted: Submitted) -> str:
    """What a submission says that leaves nothing behind."""
    said = submitted.headrace("submit", str(submitted.file), "--ray", status=1)
    assert not (submitted.folder / "submission.json").exists()
    assert not submitted.data.exists()
    return said.splitlines()[-1]


def test_what_no_node_has(submitted: Submitted) -> None:
    submitted.write(successes=5, more="[ray.producers]\nresources = { licence = 1 }")
    said = refused(submitted)
    assert "producers-0.0 asks for 1 CPU, 200 MiB of memory, 1 licence, which no node of the cluster has" in said
    # Another test kills a node.
    assert re.search(rf"127\.0\.0\.[34] has {CPUS} CPU, 2048 MiB of memory, label dataset=here", said)


def test_another_release(submitted: Submitted) -> None:
    submitted.write(successes=5)
    done = submitted.ray.run("-c", OTHER_RELEASE, "submit", submitted.file, "--ray")
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert "the cluster runs Ray 2." in sentence
    assert "this is Ray 2.0.0 with Python 3." in sentence
    assert "pip install 'ray==2." in sentence


def test_no_cluster_there(submitted: Submitted) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        submitted.write(successes=5, address=address)
        assert f"no Ray cluster answers at {address}: Connection refused; expected HOST:PORT" in refused(submitted)


def test_without_the_token(submitted: Submitted) -> None:
    submitted.write(successes=5)
    token = {"RAY_AUTH_TOKEN": "0" * 64}
    done = submitted.ray.run("-m", "deploy.main", "submit", submitted.file, "--ray", environment=token)
    assert done.returncode == 1
    assert "with its RAY_AUTH_TOKEN if it has one" in done.stderr.splitlines()[-1]


def test_a_sink_that_cannot_run_ends_the_collection(submitted: Submitted) -> None:
    submitted.write(successes=5)
    submitted.file.write_text(submitted.file.read_text().replace("lease-s = 2.0", "lease-s = -1.0"))
    submitted.submit()
    submitted.wait_for_end()
    said = submitted.headrace("status", str(submitted.file))
    assert "sink failed, see" in said
    assert f"{PRODUCERS} GONE" in said, "they have not begun"
    assert "conductor failed, see" in said
    logs = submitted.logs()
    assert "sink has ended, see" in logs
    assert "all others are asked to stop" in logs
    assert "lease" in logs, "the sink's own words"
