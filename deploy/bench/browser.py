"""A headless Chromium that looks at a page for as long as a measurement takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.processes import ProgramError
from protocol.errors import ConfigurationError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_READY_LIMIT_S = 60.0
_DEVTOOLS = re.compile(r"DevTools listening on ws://([^/]+)/")
# The page sets it once it has shown something.
_TITLE = "Headrace"


def find_chromium() -> str:
    """Where it is. Raises ConfigurationError."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise ConfigurationError(
        f"there is no {', '.join(_NAMES[:-1])} or {_NAMES[-1]} here; e.g. apt-get install chromium"
    )


@contextmanager
def browser_at(url: str, folder: Path) -> Iterator[None]:
    """It has loaded the page and shows it until the block is left. folder: for its profile and log.

    Raises ProgramError, ConfigurationError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = [find_chromium(), "--headless=new", f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    words += ["--no-first-run", "--window-size=1280,900", *(["--no-sandbox"] if os.getuid() == 0 else []), url]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
    try:
        _wait_until_shown(process, log)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_shown(process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _READY_LIMIT_S
    while time.monotonic() < ends and process.poll() is None:
        found = _DEVTOOLS.search(log.read_text(errors="replace"))
        if found is not None and any(_TITLE in title.split() for title in _titles(found[1])):
            return
        time.sleep(0.1)
    raise ProgramError(f"Chromium did not show the page: {log.read_text(errors='replace')[-300:]}")


def _titles(devtools: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://{devtools}/json", timeout=5) as answer:
            return [str(tab.get("title", "")) for tab in json.load(answer)]
    except (urllib.error.URLError, TimeoutError):
        return []
