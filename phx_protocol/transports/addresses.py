"""The address of a client, as seen through proxies that are named (TRUSTED_PROXIES)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from ..logs import get_logger
from ..socket.connect_info import ConnectInfo

logger = get_logger("phx_protocol.transport")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: stands in TRUSTED_PROXIES for a proxy that connects over a Unix socket
UNIX = "unix"
HEADER = "x-forwarded-for"
#: from where proxies connect, most often
NEIGHBOURS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("100.64.0.0/10", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"),
)


def address_of(info: ConnectInfo, proxies: Sequence[str]) -> str | None:
    """Return the address by which a client is limited; None if it is not known.

    That is an IPv4 address, or the /64 network of an IPv6 address, of which one client has all. It is
    that of the other end, unless that is one of the `proxies`: then the last one in X-Forwarded-For
    that is no proxy. It is not known without that header, and over a Unix socket that is not named.
    A neighbour (a private address) that sends the header seems to be a proxy that is not named: what
    it says is not believed, and it is not limited, as all clients come through it.
    """
    peer, trusted = _parsed((info.peer or ("", 0))[0]), _networks(tuple(proxies))
    forwarded = ",".join(v for name, v in info.headers if name == HEADER)
    is_proxy = UNIX in proxies if peer is None else _is_in(peer, trusted)
    if not is_proxy:
        if peer is not None and forwarded and _is_in(peer, _networks(NEIGHBOURS)):
            logger.warning("%s seems to be a proxy: name it in TRUSTED_PROXIES", peer)
            return None
        return None if peer is None else _shown(peer)
    for text in reversed(forwarded.split(",")):
        address = _parsed(_without_port(text.strip()))
        if address is None:
            return None
        if not _is_in(address, trusted):
            return _shown(address)
    return None


@functools.lru_cache(maxsize=16)
def _networks(proxies: tuple[str, ...]) -> list[Network]:
    return [network(text) for text in proxies if text != UNIX]


def network(text: str) -> Network:
    """Return the network of an entry of TRUSTED_PROXIES. Raises ValueError."""
    return ip_network(text, strict=False)


def _is_in(address: Address, networks: list[Network]) -> bool:
    return any(address in each for each in networks)


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_port(text: str) -> str:
    """Return the address in ``1.2.3.4``, ``1.2.3.4:80``, ``::1``, ``[::1]`` and ``[::1]:80``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _shown(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, 64), strict=False))
