"""The process of sink/page/process.py: serves the connections that come over a socket, until that closes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from protocol.errors import HeadraceError
from sink.page.board import Watched
from sink.page.catalogue import Catalogue
from sink.page.guard import Guard
from sink.page.process import HandedSettings
from sink.page.server import NICE, PageServer, make_page, server_of
from sink.page.token import read_token

log = logging.getLogger("headrace.page")


def main(argv: Sequence[str]) -> int:
    """argv: the number of the socket's descriptor, and HandedSettings as JSON. Raises HeadraceError."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    settings = msgspec.json.decode(argv[1], type=HandedSettings)
    os.nice(NICE)
    data = Path(settings.data)
    token = read_token(Path(settings.token)) if settings.token is not None else None
    guard = Guard(settings.http, token, str(data.resolve()))
    watched = Watched(settings.http, settings.inference, tuple(map(Path, settings.trainers)))
    with socket.socket(fileno=int(argv[0])) as control:
        control.setblocking(False)
        running = server_of(make_page(Catalogue(data), guard, watched))
        asyncio.run(_serve(running, control))
    return 0


async def _serve(running: PageServer, control: socket.socket) -> None:
    tasks: set[asyncio.Task[object]] = set()
    loop = asyncio.get_running_loop()

    def receive() -> None:
        try:
            said, fds, _, _ = socket.recv_fds(control, 16, 16)
        except BlockingIOError:
            return
        for fd in fds:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            task: asyncio.Task[object] = loop.create_task(_take(running, connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if not said:  # the sink has ended, however it did
            loop.remove_reader(control)
            running.stop()

    async def listen() -> None:
        while not running.started:
            await asyncio.sleep(0.01)
        loop.add_reader(control, receive)

    listening = loop.create_task(listen())
    await running.serve([])
    await listening


async def _take(running: PageServer, connection: socket.socket) -> None:
    try:
        await running.take(connection)
    except OSError as error:
        connection.close()
        log.debug("a connection ended as it was handed on: %s", error)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HeadraceError as error:
        sys.exit(f"headrace page: {error}")
