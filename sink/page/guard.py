"""Who may ask the page, and who may change something: by address, by Host, and by a token that a person types in."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError

# Browsers that have shown the token; the one that was here longest has to show it again.
_MOST_SESSIONS = 64


class Guard:
    """Decides about one request. On loopback everyone may look; elsewhere only those who have shown the token."""

    def __init__(self, address: str, token: str | None, cookie: str) -> None:
        """address: where the page is bound. cookie: what tells this page from others on the same host."""
        self.loopback = is_loopback(f"tcp://{address}")
        self.read_only = token is None
        self._token = token
        self._cookie = f"headrace-{sha256(cookie.encode()).hexdigest()[:12]}"
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def knows_host(self, request: Request) -> bool:
        """A page of another site that gave its name our address (DNS rebinding) says its own name here."""
        host = request.headers.get("host", "")
        return not self.loopback or _is_local_name(host)

    def may_look(self, request: Request) -> bool:
        """At data."""
        return self.loopback or self.may_write(request)

    def may_write(self, request: Request) -> bool:
        """Flags: this browser has shown the token."""
        return request.cookies.get(self._cookie, "") in self._sessions

    def log_in(self, token: str, response: Response) -> bool:
        """Give the browser of this response a cookie if the token is right."""
        if self._token is None or not hmac.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return False
        session = secrets.token_urlsafe()
        self._sessions[session] = None
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        response.set_cookie(self._cookie, session, httponly=True, samesite="strict")
        return True

    def log_out(self, request: Request) -> None:
        """Forget this browser."""
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)


def _is_local_name(host: str) -> bool:
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    try:
        return bool(name) and is_loopback(f"tcp://{name}:1")
    except ConfigurationError:
        return False
