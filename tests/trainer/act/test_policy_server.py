"""The policy server as a program, asked by the client that rollouts use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from producers.policy_client import PolicyClient, PolicyServerError
from protocol import checkpoint as layout
from protocol import jpeg
from protocol.checkpoint import Source
from tests.processes import Process
from trainer.act.checkpoint import seeds_bytes, weights_bytes, write_checkpoint
from trainer.act.config import ActConfig
from trainer.act.model import Act

CONFIG = ActConfig(
    state=3,
    action=2,
    cameras=("wrist", "front"),
    image_height=32,
    image_width=40,
    chunk=4,
    hidden=8,
    feedforward=8,
    heads=2,
    encoder_layers=1,
    latent=2,
    backbone_width=2,
)
SOURCE = Source(
    streams=("test/seeing",),
    state_columns={"b": 2, "a": 1},
    cameras={"wrist": (32, 40), "front": (32, 40)},
    rate_hz=20.0,
    attributes={"jpeg_quality": 70},
    episodes=1,
)


@pytest.fixture(scope="module")
def model() -> Act:
    torch.manual_seed(0)
    made = Act(CONFIG).eval()
    for backbone in made.backbones:
        backbone.measure(torch.randn(4, 3, 32, 40))
    return made


@pytest.fixture(scope="module")
def endpoint(model: Act, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    out = tmp_path_factory.mktemp("policy")
    files = {layout.WEIGHTS: weights_bytes(model.state_dict()), layout.SEEDS: seeds_bytes(np.zeros(0, np.uint64))}
    write_checkpoint(out, 1, CONFIG, SOURCE, files, keep=1)
    with Process("-m", "trainer.act.policy_server", "--checkpoint", out, "--bind", "tcp://127.0.0.1:0") as server:
        yield server.says(r"READY: rollouts at (\S+), ")[1]
        assert server.terminate() == 0


@pytest.fixture
def client(endpoint: str) -> Iterator[PolicyClient]:
    made = PolicyClient(endpoint, lambda: None)
    yield made
    made.close()


COLUMNS = {"a": np.array([3.0]), "b": np.array([[1.0, 2.0]]), "other": np.zeros(9)}


def pictures() -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    return {name: jpeg.encode(draw.integers(0, 256, (32, 40, 3), np.uint8)) for name in CONFIG.cameras}


def test_it_says_what_it_needs(client: PolicyClient) -> None:
    info = client.info
    assert (info.columns, info.cameras) == (SOURCE.state_columns, SOURCE.cameras)
    assert (info.chunk, info.action, info.rate_hz, info.jpeg_quality) == (4, 2, 20.0, 70)


def test_its_answer_is_the_models(client: PolicyClient, model: Act) -> None:
    """Columns and cameras in the policy's order, pixels as a JPEG decoder gives them."""
    frames = pictures()
    images = {name: torch.from_numpy(jpeg.decode(data)).permute(2, 0, 1)[None] for name, data in frames.items()}
    with torch.inference_mode():
        expected = model(torch.tensor([[1.0, 2.0, 3.0]]), images)[0].numpy()
    for _ in range(2):
        np.testing.assert_allclose(client.chunk(COLUMNS, frames), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("front", b"no picture", "camera 'front': expected a JPEG"),
        ("front", jpeg.encode(np.zeros((16, 16, 3), np.uint8)), "expected 32×40 pixels, found 16×16"),
        ("side", b"", "cameras wrist, front, found"),
    ],
)
def test_a_question_that_it_cannot_answer(client: PolicyClient, name: str, data: bytes, why: str) -> None:
    """It says why, and answers the next one."""
    with pytest.raises(PolicyServerError, match=why):
        client.chunk(COLUMNS, {**pictures(), name: data})
    assert client.chunk(COLUMNS, pictures()).shape == (4, 2)


def test_garbage_does_not_stop_it(client: PolicyClient, endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.set(zmq.LINGER, 1000)
        stranger.connect(endpoint)
        for data in (b"", b"\xff" * 100, b"\x81\xa2id\x01"):
            stranger.send(data)
        stranger.send_multipart([b"\x80"] * 50)
    assert client.chunk(COLUMNS, pictures()).shape == (4, 2)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(PolicyServerError, match=r"expected an answer within 0\.3 s"):
        PolicyClient(f"ipc://{tmp_path}/none", lambda: None, limit_s=0.3)
