"""`headrace page`: serve the page of a dataset until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from protocol.dataset_view import shard_paths
from protocol.endpoint import parse_address
from protocol.errors import ConfigurationError, HeadraceError
from sink.dataset import IDENTITY_NAME, stored_uuid
from sink.page.board import Watched
from sink.page.catalogue import Catalogue
from sink.page.guard import Guard
from sink.page.server import NICE, listen, make_page, server_of
from sink.page.token import check_page_address, read_token


@dataclass(frozen=True)
class PageFlags:
    """Show a dataset in a browser, also while it grows: progress, newest frames, every episode."""

    data: Path
    """Dataset directory, as given to `headrace sink --data`."""
    http: str = "127.0.0.1:9466"
    """HOST:PORT of the page; one that other machines can reach needs --http-token."""
    http_token: Path | None = None
    """File with a token of at least 16 characters, readable by its owner only. Whoever types it in may flag and discard
    episodes; without it nobody can change anything."""
    sink_http: str | None = None
    """HOST:PORT of the --http of the sink that fills the dataset, for producers and goals."""
    inference_http: tuple[str, ...] = ()
    """HOST:PORT of the --http of inference servers."""
    trainer: tuple[Path, ...] = ()
    """Folders of training runs (their --out), for the curves of their losses."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Raises HeadraceError."""
    flags = tyro.cli(PageFlags, prog="headrace page", args=argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    token = read_token(flags.http_token) if flags.http_token is not None else None
    check_page_address(flags.http, token is not None)
    for address in (*flags.inference_http, *([flags.sink_http] if flags.sink_http else [])):
        parse_address(address)
    check_dataset(flags.data)
    os.nice(NICE)
    watched = Watched(flags.sink_http, flags.inference_http, flags.trainer)
    with listen(flags.http) as listener:
        catalogue = Catalogue(flags.data)
        page = make_page(catalogue, Guard(flags.http, token, str(flags.data.resolve())), watched)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"READY: http://{shown}:{port}/ shows {flags.data}\n")
        sys.stderr.flush()
        asyncio.run(server_of(page).serve([listener]))
    return 0


def check_dataset(root: Path) -> None:
    """Raise ConfigurationError unless the directory is a dataset, or what was copied of one. Raises DatasetError."""
    if not root.is_dir() or (stored_uuid(root) is None and not shard_paths(root)):
        why = f"it has no {IDENTITY_NAME} and no shards" if root.is_dir() else "there is no such directory"
        raise ConfigurationError(f"--data {root} is no dataset: {why}; give the --data of a `headrace sink`")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HeadraceError as error:
        sys.exit(f"headrace page: {error}")
