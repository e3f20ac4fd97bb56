"""`headrace infer`: load published models once, and answer every planner."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from inference.batcher import BatchLimits
from inference.model import ModelSource
from inference.server import Server, ServerConfig, check_bind
from protocol.errors import ConfigurationError, HeadraceError
from serving.announce import announce_of
from serving.open_files import allow_files

log = logging.getLogger("headrace.infer")

# The interpreter's default of 5 ms is how long the thread of the socket could wait for the model's, batch after batch.
_SWITCH_S = 0.0005
_MOST_THREADS = 4
# Descriptors beside connections: weights, sockets, HTTP, connections that are about to be cut off.
_SPARE_FILES = 256


@dataclass(frozen=True)
class InferFlags:
    """Answer planners' queries with the published models of one directory; new versions are taken up while it runs."""

    models: Path
    """Directory of published models."""
    bind: str = "tcp://127.0.0.1:5556"
    """Endpoint for planners: tcp://HOST:PORT or ipc://PATH; one that other machines can reach needs --keys."""
    keys: Path | None = None
    """Directory of `headrace keys`, the sink's or another: connections are encrypted, and only the keys that it allows
    come in."""
    announce: Path | None = None
    """File in which planners on other machines find this server, on a file system that they share: written once it is
    ready. They take its path in place of an endpoint."""
    advertise: str | None = None
    """Host that is announced, if it is not the one of --bind. For tcp://0.0.0.0:PORT the default is this machine's full
    name, or where other machines cannot know that name, its address."""
    http: str | None = "127.0.0.1:9465"
    """HOST:PORT of /metrics and /healthz; None for no HTTP."""
    http_without_keys: bool = False
    """Other machines may reach --http, which has no keys: for networks where something else says who comes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; auto takes cuda if there is one."""
    threads: int | None = None
    """Batches that are computed at once on the CPU, each by one thread; as many as there are cores by default, up to 4,
    because they share one interpreter. With cuda it is always one."""
    max_batch: int = 32
    """The most queries that go to a model at once."""
    max_wait_ms: float = 5.0
    """How long the first query of a batch waits for others, at most [ms]. Nobody is waited for who is not expected."""
    max_queue: int = 1024
    """How many queries may wait; more are answered `busy`."""
    max_queue_mib: int = 64
    """How many bytes of queries may wait [MiB]."""
    memory_mib: int = 256
    """What planners' messages may take of this process' own memory, beside models and libraries [MiB]; near it the
    connections with the most bytes waiting are cut off."""
    max_connections: int = 256
    """How many connections at once."""
    verbose: bool = False
    """Log more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, then drain. Raises HeadraceError."""
    flags = tyro.cli(InferFlags, prog="headrace infer", args=argv)
    logging.basicConfig(
        level=logging.DEBUG if flags.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    limits = _limits(flags)
    check_bind(flags.bind, flags.keys)
    allow_files(flags.max_connections + _SPARE_FILES, f"{flags.max_connections} connections", "lower --max-connections")
    from inference.published_source import (
        PublishedSource,
        best_device,
    )  # brings torch, which takes seconds

    device = best_device() if flags.device == "auto" else flags.device
    threads = 1 if device == "cuda" else flags.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    announce = announce_of(flags.announce, flags.advertise)
    config = ServerConfig(
        flags.bind,
        flags.http,
        device,
        threads,
        limits,
        announce=announce,
        keys=flags.keys,
        connections=flags.max_connections,
        client_bytes=flags.memory_mib << 20,
        http_without_keys=flags.http_without_keys,
    )
    serve(PublishedSource(flags.models, device), config)
    return 0


def serve(source: ModelSource, config: ServerConfig) -> None:
    """Run one server in this process' main thread until it is told to stop. Raises HeadraceError."""
    sys.setswitchinterval(_SWITCH_S)
    server = Server(source, config)
    _stop_on_signals(server)
    log.info("READY: planners at %s, http %s, device %s", server.endpoint, server.http_address, config.device)
    server.run()
    log.info("stopped")


def _stop_on_signals(server: Server) -> None:
    """The first signal drains, the second ends the process at once."""

    def handle(number: int, _: object) -> None:
        if server.stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        server.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def _limits(flags: InferFlags) -> BatchLimits:
    if flags.threads is not None and flags.threads < 1:
        raise ConfigurationError(f"--threads must be at least 1, found {flags.threads}")
    if min(flags.memory_mib, flags.max_connections) < 1:
        raise ConfigurationError("--memory-mib and --max-connections must be at least 1")
    if min(flags.max_batch, flags.max_queue, flags.max_queue_mib) < 1 or not 0 <= flags.max_wait_ms <= 10_000:
        raise ConfigurationError(
            "--max-batch, --max-queue and --max-queue-mib must be at least 1, --max-wait-ms between 0 and 10000"
        )
    return BatchLimits(flags.max_batch, flags.max_wait_ms / 1000, flags.max_queue, flags.max_queue_mib << 20)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"headrace infer: {error}")
