"""`python -m trainer.act.policy_server`: answers rollouts with the actions of one checkpoint.

One question at a time: an answer then depends on its question only, whoever else asks, and an evaluation gives the same
result with any number of workers.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
import zmq

from protocol import jpeg
from protocol.checkpoint import OpenCheckpoint, open_checkpoint
from protocol.checksum import frame_checksum
from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError, CorruptionError, EpisodeError, HeadraceError
from protocol.policy import (
    MAX_QUESTION_BYTES,
    POLICY_PROTOCOL,
    AskInfo,
    Chunk,
    Failed,
    FromPolicy,
    Observation,
    PolicyInfo,
    PolicyProtocolError,
    decode_from_rollout,
    encode,
    pack,
    state_of,
)
from protocol.spec import Camera
from trainer.act.checkpoint import load_policy
from trainer.act.train import choose_device
from trainer.interrupt import interruptible
from trainer.live.frames import decode_into

log = logging.getLogger("headrace.policy")

_POLL_MS = 200
_WHY_CHARACTERS = 2000


@dataclass(frozen=True)
class PolicyFlags:
    """Answer rollouts of this machine with a trained policy, until it is told to stop."""

    checkpoint: Path
    """Directory that `headrace train act --out` wrote, or the folder of one checkpoint in it."""
    bind: str = "tcp://127.0.0.1:5557"
    """Endpoint for rollouts of this machine: tcp://127.0.0.1:PORT (0: any free one) or ipc://PATH."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the model runs; auto takes cuda if there is one."""
    threads: int = 1
    """Threads of torch on the CPU."""


class ServedPolicy:
    """A policy that answers observations."""

    def __init__(self, checkpoint: OpenCheckpoint, device: torch.device) -> None:
        """Raises ModelError."""
        self._model = load_policy(checkpoint).to(device)
        self._device = device
        source, config = checkpoint.manifest.source, self._model.config
        self.info = PolicyInfo(
            id=0,
            protocol=POLICY_PROTOCOL,
            name=checkpoint.name,
            device=str(device),
            columns=source.state_columns,
            cameras=source.cameras,
            chunk=config.chunk,
            action=config.action,
            rate_hz=source.rate_hz,
            jpeg_quality=int(source.attributes.get("jpeg_quality", jpeg.DEFAULT_QUALITY)),
        )

    def answer(self, question: AskInfo | Observation) -> FromPolicy:
        """Its answer, with the question's number. Raises PolicyProtocolError, EpisodeError, CorruptionError."""
        if isinstance(question, AskInfo):
            return PolicyInfo(**{name: getattr(self.info, name) for name in _FIELDS}, id=question.id)
        state = torch.from_numpy(state_of(self.info, question))[None].to(self._device)  # [1, S]
        images = {name: self._image(name, question.frames[name]) for name in self.info.cameras}
        with torch.inference_mode():
            actions = self._model(state, images)[0]  # [K, A]
        return Chunk(id=question.id, actions=pack(actions.cpu().numpy()))

    def _image(self, name: str, data: bytes) -> torch.Tensor:
        """uint8[1, 3, H, W], scaled as in training."""
        camera, config = Camera(name, *self.info.cameras[name]), self._model.config
        jpeg.check(data, camera)
        pixels = np.empty((config.image_height, config.image_width, 3), np.uint8)  # [H, W, 3]
        decode_into(data, frame_checksum(data), camera, pixels)
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)


_FIELDS = [name for name in PolicyInfo.__struct_fields__ if name != "id"]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Raises HeadraceError."""
    flags = tyro.cli(PolicyFlags, prog="python -m trainer.act.policy_server", args=argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    if not is_loopback(flags.bind):
        raise ConfigurationError(
            f"--bind {flags.bind} can be reached from other machines, and this server has no keys; "
            "bind tcp://127.0.0.1:PORT or ipc://PATH"
        )
    torch.set_num_threads(flags.threads)
    policy = ServedPolicy(open_checkpoint(flags.checkpoint), choose_device(flags.device))
    with interruptible() as stop, zmq.Context() as context, _bound(context, flags.bind) as socket:
        endpoint = socket.get_string(zmq.LAST_ENDPOINT)
        log.info("READY: rollouts at %s, %s on %s", endpoint, policy.info.name, policy.info.device)
        while not stop.is_set():
            if socket.poll(_POLL_MS):
                _serve_one(socket, policy)
    return 0


def _serve_one(socket: zmq.Socket[bytes], policy: ServedPolicy) -> None:
    peer, *parts = socket.recv_multipart()
    try:
        question = decode_from_rollout(b"".join(parts))
    except PolicyProtocolError as error:
        log.warning("dropped: %s", error)  # without a number nobody could know the answer
        return
    try:
        answer = policy.answer(question)
    except (PolicyProtocolError, EpisodeError, CorruptionError) as error:
        answer = Failed(id=question.id, why=str(error)[:_WHY_CHARACTERS])
    try:
        socket.send_multipart([peer, encode(answer)], zmq.NOBLOCK)
    except zmq.ZMQError as error:
        log.warning("an answer was not sent: %s", error.strerror)  # its rollout is gone, or does not read


def _bound(context: zmq.Context[zmq.Socket[bytes]], bind: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.ROUTER)
    socket.set(zmq.ROUTER_MANDATORY, 1)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.MAXMSGSIZE, MAX_QUESTION_BYTES)
    # A rollout has one question at a time.
    socket.set(zmq.RCVHWM, 4)
    socket.set(zmq.SNDHWM, 4)
    try:
        socket.bind(bind)
    except zmq.ZMQError as error:
        socket.close()
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"cannot bind {bind}: {why}; choose another --bind") from error
    return socket


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"policy server: {error}")
