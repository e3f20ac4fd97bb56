"""A policy that runs in another process, and speaks `protocol.policy`: e.g. `python -m trainer.act.policy_server`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import zmq
from numpy.typing import NDArray

from producers.action_chunks import Chunks, OpenLoop, TemporalEnsemble
from producers.environment import Renderer, TimeStep
from protocol import jpeg
from protocol.errors import ConfigurationError, HeadraceError
from protocol.policy import (
    MAX_ANSWER_BYTES,
    POLICY_PROTOCOL,
    AskInfo,
    Chunk,
    Failed,
    FromPolicy,
    FromRollout,
    Observation,
    PolicyInfo,
    actions_of,
    decode_from_policy,
    encode,
    pack,
)

ANSWER_LIMIT_S = 60.0
_POLL_MS = 200


class PolicyServerError(HeadraceError):
    """The policy server gives no usable answer."""


class PolicyClient:
    """One connection, one question at a time. `close` it."""

    def __init__(self, endpoint: str, check: Callable[[], None], limit_s: float = ANSWER_LIMIT_S) -> None:
        """check: called while it waits; may raise. Raises ConfigurationError, PolicyServerError."""
        self.endpoint, self._check, self._limit_s = endpoint, check, limit_s
        self._numbers = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
        try:
            self._socket.connect(endpoint)
            self.info = self._ask_info()
        except zmq.ZMQError as error:
            self.close()
            raise ConfigurationError(f"--policy {endpoint}: cannot connect: {error.strerror}") from error
        except HeadraceError:
            self.close()
            raise

    def close(self) -> None:
        """Nothing is waited for."""
        self._socket.close(linger=0)
        self._context.term()

    def chunk(self, columns: Mapping[str, NDArray[np.generic]], frames: Mapping[str, bytes]) -> NDArray[np.float32]:
        """The policy's actions from now on, float32[K, A]. Raises PolicyServerError, PolicyProtocolError."""
        self._numbers += 1
        packed = {name: pack(np.asarray(columns[name], np.float32)) for name in self.info.columns}
        answer = self._ask(Observation(id=self._numbers, columns=packed, frames=dict(frames)))
        if not isinstance(answer, Chunk):
            raise PolicyServerError(f"{self.endpoint}: expected a chunk of actions, found {type(answer).__name__}")
        return actions_of(self.info, answer)

    def _ask_info(self) -> PolicyInfo:
        info = self._ask(AskInfo(id=0))
        if not isinstance(info, PolicyInfo) or info.protocol != POLICY_PROTOCOL:
            raise PolicyServerError(f"{self.endpoint}: expected a policy server of protocol {POLICY_PROTOCOL}")
        return info

    def _ask(self, question: FromRollout) -> FromPolicy:
        self._socket.send(encode(question))
        ends = time.monotonic() + self._limit_s
        while time.monotonic() < ends:
            self._check()
            if not self._socket.poll(_POLL_MS):
                continue
            answer = decode_from_policy(b"".join(self._socket.recv_multipart()))
            if answer.id != question.id:
                continue  # of a question that was given up
            if isinstance(answer, Failed):
                raise PolicyServerError(f"{self.endpoint}: {answer.why}")
            return answer
        raise PolicyServerError(f"{self.endpoint}: expected an answer within {self._limit_s:g} s, found none")


class RemotePolicy:
    """An `environment.Policy` whose actions a policy server chooses; an episode ends with its first success."""

    def __init__(self, client: PolicyClient, renderer: Renderer | None, execute: int | None) -> None:
        """renderer: of the policy's cameras. execute: actions of a chunk to do; None: temporal ensembling.

        Raises ConfigurationError.
        """
        info = client.info
        if execute is not None and not 1 <= execute <= info.chunk:
            raise ConfigurationError(f"expected to execute 1 to {info.chunk} actions of a chunk, found {execute}")
        self._client, self._renderer, self._execute = client, renderer, execute
        self.parameters: dict[str, object] = {
            "checkpoint": info.name,
            "execute": "temporal ensemble" if execute is None else execute,
        }
        self._chunks = self._empty()

    def reset(self, first: TimeStep) -> None:
        """Begin an episode."""
        del first
        self._chunks = self._empty()

    def act(self, timestep: TimeStep) -> NDArray[np.float32]:
        """float32[A]. Raises PolicyServerError."""
        if self._chunks.wants_chunk:
            self._chunks.add(self._client.chunk(timestep.observation, self._frames(timestep)))
        return self._chunks.action()

    def done(self, timestep: TimeStep) -> bool:
        """The task's own success test holds."""
        return timestep.success

    def _empty(self) -> Chunks:
        return TemporalEnsemble(self._client.info.chunk) if self._execute is None else OpenLoop(self._execute)

    def _frames(self, timestep: TimeStep) -> dict[str, bytes]:
        """As they were stored: the policy has never seen a picture that was not a JPEG."""
        if self._renderer is None:
            return {}
        images = self._renderer.render(np.asarray(timestep.observation["states"], np.float64))
        return {name: jpeg.encode(images[name], self._client.info.jpeg_quality) for name in self._client.info.cameras}
