"""`headrace top`: what sinks and inference servers are doing, on this machine or others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.live import Live

from deploy.scrape import Page, look
from deploy.top_view import view
from deploy.up import interruptible
from protocol.endpoint import parse_address
from protocol.errors import ConfigurationError

DEFAULTS = ("127.0.0.1:9464", "127.0.0.1:9465")
_WIDTH = 120


@dataclass(frozen=True)
class TopFlags:
    """Watch running sinks and inference servers; Ctrl-C ends it and changes nothing there."""

    addresses: Annotated[tuple[str, ...], tyro.conf.Positional] = DEFAULTS
    """Their --http addresses, HOST:PORT."""
    interval: float = 1.0
    """Time between two looks [s]."""
    once: bool = False
    """Print one view and end; exit status 1 if nobody answers. Also when the output is no terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Show until Ctrl-C. Raises ConfigurationError."""
    flags = tyro.cli(TopFlags, prog="headrace top", args=argv)
    if not flags.interval > 0:
        raise ConfigurationError(f"--interval {flags.interval:g}: expected more than 0 seconds")
    for address in flags.addresses:
        parse_address(address)
    console = Console()
    with ThreadPoolExecutor(len(flags.addresses)) as pool, interruptible() as stop, ExitStack() as stack:
        if flags.once or not console.is_terminal:
            if not console.is_terminal:
                console.width = _WIDTH
            pages = list(pool.map(look, flags.addresses))
            console.print(view(pages, {}))
            return 0 if any(not page.trouble for page in pages) else 1
        live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        before: dict[str, Page] = {}
        while not stop.is_set():
            pages = list(pool.map(look, flags.addresses))
            live.update(view(pages, before), refresh=True)
            before = {page.address: page for page in pages}
            stop.wait(flags.interval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
