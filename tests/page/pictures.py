"""`python -m tests.page.pictures`: the pictures of the page in docs/, from a real collection that is under way.

robosuite workers and a NAMO planner publish to one sink; after a few episodes a headless Chromium takes the pictures.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from playwright.sync_api import Browser, sync_playwright

from tests.page.conftest import Client
from tests.processes import REPOSITORY, Process, SinkProcess, wait_until

CAN, BOXES = "robosuite/PickPlaceCan", "namo/all_medium"
_LIMIT_S = 1800.0


@dataclass(frozen=True)
class PictureFlags:
    """Collect for a while and take pictures of the page."""

    out: Path = REPOSITORY / "docs"
    """Where page.png and page_episode.png are written."""
    data: Path | None = None
    """Dataset directory, to go on with; a temporary one by default."""
    episodes: int = 6
    """Episodes of PickPlaceCan before the pictures are taken."""
    workers: int = 2
    """robosuite workers."""
    trainer: tuple[Path, ...] = ()
    """Folders of training runs to show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Take them."""
    flags = tyro.cli(PictureFlags, args=argv)
    with ExitStack() as stack:
        folder = flags.data or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "pick_and_push"
        shown = ["--trainer", *map(str, flags.trainer)] if flags.trainer else []
        sink = SinkProcess(folder, "--shard-mib", "256", *shown)
        stack.enter_context(sink)
        sink.ready()
        produce = ("-m", "deploy.main", "produce")
        can = ("robosuite", "--sink", sink.endpoint, "--env", "PickPlaceCan", "--episodes", "40")
        stack.enter_context(Process(*produce, *can, "--workers", str(flags.workers)))
        boxes = ("namo", "--sink", sink.endpoint, "--template", "all", "--difficulty", "medium", "--end-idx", "120")
        stack.enter_context(Process(*produce, *boxes, "--workers", "1", "--max-pushes", "200"))
        client = Client(sink.http)
        wait_until(lambda: _episodes(client) >= flags.episodes, "enough episodes", _LIMIT_S)
        path = shutil.which("chromium")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            _picture(browser, f"http://{sink.http}/", flags.out / "page.png", wait_ms=9000)
            newest = client.get("/api/episodes", stream=CAN, outcome="success", count=1).json()["episodes"][0]["index"]
            address = f"http://{sink.http}/#/episode/{newest}/{CAN}"
            _picture(browser, address, flags.out / "page_episode.png", step=110)
            browser.close()
    return 0


def _episodes(client: Client) -> int:
    streams: list[dict[str, Any]] = client.get("/api/now").json()["streams"]
    return sum(stream["episodes"] for stream in streams if stream["name"] == CAN)


def _picture(browser: Browser, address: str, out: Path, wait_ms: int = 2000, step: int | None = None) -> None:
    context = browser.new_context(viewport={"width": 1360, "height": 1120}, device_scale_factor=1)
    page = context.new_page()
    page.goto(address)
    page.locator("#newest img, .camera img").first.wait_for()
    if step is not None:
        page.locator(".uplot").nth(2).wait_for()
        page.locator("input[type=range]").fill(str(step))
        page.locator("input[type=range]").blur()
    page.wait_for_timeout(wait_ms)
    page.screenshot(path=out)
    sys.stdout.write(f"{out}\n")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
