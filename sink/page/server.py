"""Serving the page: on an address of its own, or connections that a sink hands over."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from protocol.endpoint import parse_address
from protocol.errors import ConfigurationError
from sink.page.app import Page
from sink.page.assets import Assets
from sink.page.board import Board, Watched
from sink.page.catalogue import Catalogue
from sink.page.connections import BoundedProtocol
from sink.page.guard import Guard
from sink.page.plan_panels import PlanPanels

_BACKLOG = 128
_END_S = 2
# Producers and the sink come first.
NICE = 5


def make_page(catalogue: Catalogue, guard: Guard, watched: Watched) -> Page:
    """A page on a dataset."""
    return Page(catalogue, Board(catalogue, watched), guard, watched, PlanPanels(), Assets())


def listen(address: str) -> socket.socket:
    """A socket on HOST:PORT. Raises ConfigurationError."""
    host, port = parse_address(address)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
    except OSError as error:
        why = f"cannot serve the page on {address}: {error.strerror}; choose another --http"
        raise ConfigurationError(why) from error
    return made


class PageServer(uvicorn.Server):
    """uvicorn that ends quietly: the first SIGINT or SIGTERM lets answers be finished, the second does not."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """While it serves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """End soon; at once when it is said again."""
        self.force_exit, self.should_exit = self.should_exit, True

    def take(self, connection: socket.socket) -> Coroutine[Any, Any, Any]:
        """Serve a connection that was accepted elsewhere."""
        return asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def server_of(page: Page) -> PageServer:
    """Serves the page, once `serve` is awaited."""
    return PageServer(
        uvicorn.Config(
            page.app(),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_END_S,
        )
    )
