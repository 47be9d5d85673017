from __future__ import annotations

import socket

import psutil
import pytest

from lab.errors import ConfigError
from lab.serve.listening import LOOPBACK, Listening, listening_at


def own_address() -> str:
    for each in psutil.net_if_addrs().values():
        for one in each:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return one.address
    pytest.skip("this machine has no network")


@pytest.mark.parametrize("host", [LOOPBACK, "localhost"])
def test_by_default_only_this_machine_reaches_it(host: str) -> None:
    found = listening_at(host)
    assert found.bind in (LOOPBACK, "::1")
    assert {"localhost", LOOPBACK, "::1"} == set(found.names)


def test_an_address_of_this_machine() -> None:
    found = listening_at(own_address())
    assert (found.bind, found.name, found.here) == (own_address(),) * 3
    assert {own_address(), socket.gethostname(), "localhost"} <= set(found.names)


def test_all_addresses_are_known_by_one_that_others_reach() -> None:
    found = listening_at("0.0.0.0")
    assert (found.bind, found.here) == ("0.0.0.0", LOOPBACK)
    assert own_address() in found.names
    assert not socket.gethostbyname(found.name).startswith("127.")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("no.such.name.invalid", "--host no.such.name.invalid: cannot be found from here; name one of"),
        ("203.0.113.7", "means 203.0.113.7, which is no address of this machine; name one of"),
        ("127.0.0.2", "means 127.0.0.2 here, which other machines cannot reach; name one of"),
    ],
)
def test_another_address_is_an_error(host: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        listening_at(host)


def test_urls_and_patterns() -> None:
    found = Listening("fd00::2", "fd00::2", ("login1", "fd00::2"))
    assert found.url("http", 5000) == "http://[fd00::2]:5000"
    assert found.url("postgresql", 5432, "/studies", "lab") == "postgresql://lab@[fd00::2]:5432/studies"
    assert found.hosts == "login1,login1:*,[[]fd00::2],[[]fd00::2]:*"
    assert found.origins(5000) == "http://login1:5000,http://[fd00::2]:5000"
