"""The page's own files, in memory: they are few and small, and nothing else below any folder can be asked for."""

from __future__ import annotations

import mimetypes
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


class Assets:
    """Files of the package's folder `static` by their path in it."""

    def __init__(self) -> None:
        self._files = dict(_below(files("sink.page") / "static", ""))

    def answer(self, path: str, request: Request) -> Response | None:
        """A file, or that the browser's copy is good; None if there is no such file."""
        data = self._files.get(path)
        if data is None:
            return None
        tag = f'"{sha256(data).hexdigest()[:20]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        suffix = path[path.rfind(".") :]
        kind = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "text/plain"
        return Response(data, media_type=kind, headers=headers)


def _below(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        found += _below(entry, f"{name}/") if entry.is_dir() else [(name, entry.read_bytes())]
    return found
