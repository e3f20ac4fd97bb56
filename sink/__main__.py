"""`headrace sink`: run the sink of one dataset until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from protocol.endpoint import parse_address
from protocol.errors import ConfigurationError, HeadraceError
from protocol.sink_delivery import DeliveryConfig
from serving.announce import announce_of
from serving.connections import ConnectionLimits
from serving.open_files import allow_files
from sink.daemon import Sink, SinkConfig
from sink.disk import Disk
from sink.page.process import PageSettings
from sink.page.token import read_token
from sink.resources import files_needed, plan_memory

log = logging.getLogger("headrace.sink")


@dataclass(frozen=True)
class SinkFlags:
    """Receive episodes from producers and store them in one dataset, durably, each exactly once."""

    data: Path
    """Dataset directory; made if it does not exist."""
    bind: str = "tcp://127.0.0.1:5555"
    """Endpoint for producers: tcp://HOST:PORT or ipc://PATH; one that other machines can reach needs --keys."""
    keys: Path | None = None
    """Directory of `headrace keys`: connections are encrypted, and only the keys that it allows come in."""
    announce: Path | None = None
    """File in which producers on other machines find this sink, on a file system that they share: written once it is
    ready. They take its path in place of an endpoint."""
    advertise: str | None = None
    """Host that is announced, if it is not the one of --bind. For tcp://0.0.0.0:PORT the default is this machine's full
    name, or where other machines cannot know that name, its address."""
    http: str | None = "127.0.0.1:9464"
    """HOST:PORT of /metrics, /healthz and /status, and of the page for a browser; None for no HTTP."""
    http_without_keys: bool = False
    """Other machines may reach --http, which has no keys: for networks where something else says who comes."""
    page: bool = True
    """Show the collection in a browser at --http. Its process is started when somebody first looks."""
    http_token: Path | None = None
    """File with a token of at least 16 characters, readable by its owner only; who types it in on the page may flag and
    discard episodes. Without it nobody can change anything there."""
    inference_http: tuple[str, ...] = ()
    """HOST:PORT of the --http of inference servers, for the page."""
    trainer: tuple[Path, ...] = ()
    """Folders of training runs (their --out), for the page."""
    memory_mib: int = 256
    """Bound of this process' own memory [MiB]; payload may take what the program and its connections leave."""
    max_producers: int = 64
    """How many producers share that memory; each gets an equal window of credit."""
    shard_mib: int = 1024
    """Size of one shard's blob [MiB]; this much disk is reserved at once."""
    quota_mib: int | None = None
    """Disk that all of --data may take [MiB], to share one with others; None for all that is free. What does not fit
    waits: producers keep it, and go on by themselves when there is room."""
    lease_s: float = 15.0
    """Silence after which a producer's indices are given to others [s]."""
    streams: tuple[str, ...] = ()
    """Take these streams only; all if empty."""
    max_streams: int = 64
    """How many streams, with those of the dataset; each reserves one shard on the disk."""
    max_connections: int | None = None
    """How many connections at once; None for 2 × max-producers + 16."""
    verbose: bool = False
    """Log every recorded failure too."""


def main(argv: Sequence[str] | None = None, disk: Disk | None = None) -> int:
    """Run until SIGINT or SIGTERM, then drain. disk: in place of the real one. Raises HeadraceError."""
    flags = tyro.cli(SinkFlags, prog="headrace sink", args=argv)
    logging.basicConfig(
        level=logging.DEBUG if flags.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    sink = Sink(_config(flags), disk)
    _stop_on_signals(sink)
    log.info("READY: data %s, producers at %s, http %s", flags.data, sink.endpoint, sink.http_address)
    sink.run()
    log.info("stopped; every acknowledged episode is in %s", flags.data)
    return 0


def _stop_on_signals(sink: Sink) -> None:
    """The first signal drains; the second ends the process at once, which costs nothing that was acknowledged."""

    def handle(number: int, _: object) -> None:
        if sink.stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        sink.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def _config(flags: SinkFlags) -> SinkConfig:
    if min(flags.shard_mib, flags.memory_mib, flags.max_producers, flags.max_streams) < 1:
        raise ConfigurationError("--shard-mib, --memory-mib, --max-producers and --max-streams must be at least 1")
    if flags.max_connections is not None and flags.max_connections < flags.max_producers:
        raise ConfigurationError(
            f"--max-connections {flags.max_connections}: expected at least --max-producers {flags.max_producers}"
        )
    if flags.quota_mib is not None and flags.quota_mib <= flags.shard_mib:
        raise ConfigurationError(
            f"--quota-mib {flags.quota_mib} has no room for a shard of --shard-mib {flags.shard_mib} with its tables"
        )
    if not 1.0 <= flags.lease_s <= 3600:
        raise ConfigurationError(f"--lease-s {flags.lease_s}: expected 1 to 3600 seconds")
    plan = plan_memory(flags.memory_mib, flags.max_producers, flags.max_connections)
    allow_files(
        files_needed(plan.connections, flags.max_streams),
        f"{plan.connections} connections and {flags.max_streams} streams",
        "lower --max-producers, --max-connections or --max-streams",
    )
    heartbeat_s = min(1.0, flags.lease_s / 4)
    delivery = DeliveryConfig(
        credit_bytes=plan.credit_bytes,
        max_producers=flags.max_producers,
        heartbeat_s=heartbeat_s,
        lease_s=flags.lease_s,
        grace_s=3 * heartbeat_s,
        streams=frozenset(flags.streams) or None,
        max_streams=flags.max_streams,
    )
    quota = None if flags.quota_mib is None else flags.quota_mib << 20
    limits = ConnectionLimits(plan.connections, flags.memory_mib << 20)
    return SinkConfig(
        flags.data,
        flags.bind,
        flags.http,
        flags.shard_mib << 20,
        delivery,
        flags.keys,
        limits,
        quota,
        announce_of(flags.announce, flags.advertise),
        flags.http_without_keys,
        page=_page(flags),
    )


def _page(flags: SinkFlags) -> PageSettings | None:
    if flags.http_token is not None:
        read_token(flags.http_token)  # whether it is one: the page reads it later
    for address in flags.inference_http:
        parse_address(address)
    return PageSettings(flags.http_token, flags.inference_http, flags.trainer) if flags.page else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"headrace sink: {error}")
