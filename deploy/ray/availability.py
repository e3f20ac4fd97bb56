"""Is there a Ray to import? Told without importing it, which takes a second."""

from __future__ import annotations

import importlib.util

from protocol.errors import ConfigurationError


def check_ray() -> None:
    """Raise ConfigurationError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            "Ray is not installed here; install the release that your cluster has: pip install 'headrace[ray]'"
        )
