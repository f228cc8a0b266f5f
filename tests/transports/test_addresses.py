"""Which address a client has, behind proxies that are named and others."""

from __future__ import annotations

import pytest

from phx_protocol.socket.connect_info import ConnectInfo
from phx_protocol.transports.addresses import address_of, network

PROXIES = ["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48", "unix"]


def seen(peer: str | None, *forwarded: str, proxies: list[str] = PROXIES) -> str | None:
    headers = [(b"X-Forwarded-For", text.encode()) for text in forwarded]
    client = None if peer is None else (peer, 1234)
    scope = {"type": "websocket", "headers": headers, "client": client}
    return address_of(ConnectInfo(scope), proxies)


@pytest.mark.parametrize(
    "peer, forwarded, address",
    [
        ("198.51.100.1", [], "198.51.100.1"),
        # it says what it likes
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),
        ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["1.1.1.1", "203.0.113.9, 10.9.9.9", "192.0.2.7"], "203.0.113.9"),
        (None, ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["203.0.113.9:5555"], "203.0.113.9"),
        ("10.1.2.3", ["[2001:db8::1]:5555"], "2001:db8::/64"),
        ("10.1.2.3", ["[2001:db8::1]"], "2001:db8::/64"),
        ("10.1.2.3", ["2001:db8:0:0:1::1"], "2001:db8::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
        ("::ffff:10.1.2.3", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:ffff::1", ["203.0.113.9"], "203.0.113.9"),
    ],
)
def test_it_is_the_last_one_that_no_proxy_of_ours_has(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert seen(peer, *forwarded) == address


@pytest.mark.parametrize(
    "peer, forwarded",
    [
        (None, []),
        ("10.1.2.3", []),
        ("10.1.2.3", ["10.9.9.9"]),
        ("10.1.2.3", [""]),
        ("10.1.2.3", ["unknown"]),
        ("10.1.2.3", ["203.0.113.9, _hidden"]),
        ("10.1.2.3", ["203.0.113.9,"]),
        ("testclient", []),
        ("", []),
    ],
)
def test_where_it_is_not_known_nobody_is_limited(
    peer: str | None, forwarded: list[str]
) -> None:
    assert seen(peer, *forwarded) is None


def test_a_neighbour_that_forwards_seems_to_be_a_proxy_and_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert seen("172.16.0.1", "203.0.113.9", proxies=[]) is None
    assert "172.16.0.1 seems to be a proxy" in caplog.text
    assert seen("172.16.0.1", proxies=[]) == "172.16.0.1"
    assert seen(None, "203.0.113.9", proxies=[]) is None


def test_a_network_may_have_bits_beyond_its_prefix() -> None:
    assert str(network("10.1.2.3/8")) == "10.0.0.0/8"
