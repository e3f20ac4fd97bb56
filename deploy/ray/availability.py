"""Is there a Ray to import? Told without importing it, which takes a second."""

from __future__ import annotations

import importlib.util
import os

from protocol.errors import ConfigurationError

# Ray reads these when it is imported. It announces a change of the first default, and tries a head that refuses it
# twenty times, a second each, and complains each time.
_DEFAULTS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_NUM_REDIS_GET_RETRIES": "5"}


def check_ray() -> None:
    """Before the first import of Ray. Raises ConfigurationError if it is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            "Ray is not installed here; install the release that your cluster has: pip install 'headrace[ray]'"
        )
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
