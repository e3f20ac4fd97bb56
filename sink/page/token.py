"""The token of a page, and which addresses need one."""

from __future__ import annotations

import stat
from pathlib import Path

from protocol.endpoint import is_loopback
from protocol.errors import ConfigurationError

MIN_TOKEN = 16
_MOST_TOKEN = 1000


def read_token(path: Path) -> str:
    """A token from a file of its own. Raises ConfigurationError."""
    try:
        found = path.stat()
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--http-token {path}: cannot be read: {error}") from error
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"--http-token {path}: others can read it; say `chmod 600 {path}`")
    if not MIN_TOKEN <= len(text) <= _MOST_TOKEN:
        how = f"python3 -c 'import secrets; print(secrets.token_urlsafe())' > {path}"
        raise ConfigurationError(
            f"--http-token {path}: expected at least {MIN_TOKEN} characters, found {len(text)}; for a good one: {how}"
        )
    return text


def check_page_address(address: str, has_token: bool) -> None:
    """Raise ConfigurationError if other machines could look at the dataset, and nobody asks them for a token."""
    if not is_loopback(f"tcp://{address}") and not has_token:
        raise ConfigurationError(
            f"--http {address} can be reached from other machines, and without --http-token anyone could look at the "
            "dataset; serve it on 127.0.0.1:PORT and come through an ssh tunnel, or give --http-token FILE"
        )
