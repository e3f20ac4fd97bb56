"""The limit of open files is raised as far as the system lets us."""

from __future__ import annotations

import resource

import pytest

from protocol.errors import ConfigurationError
from serving.open_files import allow_files


def test_files_are_allowed_as_far_as_the_system_lets_us() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        allow_files(500, "200 connections", "have fewer")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, before[1])
        allow_files(400, "100 connections", "have fewer")  # never lowered
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, before[1])
        with pytest.raises(ConfigurationError, match=r"1000 connections need .*raise `ulimit -n`, or have fewer"):
            allow_files(1 << 40, "1000 connections", "have fewer")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
