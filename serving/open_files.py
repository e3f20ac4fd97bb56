"""How many files a server may have open at once."""

from __future__ import annotations

import resource

from protocol.errors import ConfigurationError


def allow_files(needed: int, what: str, instead: str) -> None:
    """Raise this process' limit of open files to `needed`, unless it is there already.

    what: needs them, e.g. `100 connections`. instead: what else could be done. Raises ConfigurationError if the limit
    cannot be raised that far.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError(
            f"{what} need {needed} open files and this process may have {hard}; raise `ulimit -n`, or {instead}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
