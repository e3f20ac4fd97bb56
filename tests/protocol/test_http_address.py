"""HTTP has no keys, so it is for this machine, unless the operator says that something else decides who comes."""

from __future__ import annotations

import pytest

from protocol.endpoint import check_http
from protocol.errors import ConfigurationError


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "node7:9464", "192.0.2.7:80"])
def test_other_machines_come_only_if_the_operator_says_so(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HTTP has no keys.*--http-without-keys"):
        check_http(address)
    check_http(address, without_keys=True)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:9464", "localhost:80"])
def test_this_machine_always_comes(address: str) -> None:
    check_http(address)
