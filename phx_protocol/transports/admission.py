"""Admission: how many connections a user and an address may have, and how often an address may connect.

The numbers are those of all processes together. All limits are off by default.
"""

from __future__ import annotations

import functools
import math

from ..auth.users import key_of
from ..concurrency.tasks import begin
from ..conf import Options
from ..exceptions import BroadcastError, ConnectionRefused
from ..logs import get_logger
from ..node.census import Census
from ..node.node import Node
from ..socket.connect_info import ConnectInfo
from ..socket.opening import Opening
from ..socket.refusals import refusals
from ..socket.throttle import parse_rate
from ..wire.reasons import Refusal
from .addresses import address_of
from .connect_rates import ConnectRates

logger = get_logger("phx_protocol.transport")

#: seconds after which a client with too many connections may try again
AGAIN = 5


class Admission:
    """The limits for one request. A check that fails raises ConnectionRefused."""

    def __init__(self, node: Node, options: Options, info: ConnectInfo) -> None:
        self._node = node
        self._options = options
        self._info = info

    @functools.cached_property
    def _address(self) -> str | None:
        return address_of(self._info, self._options.trusted_proxies)

    async def check_rate(self) -> None:
        """Check how often the client's address has connected (CONNECT_RATE), and count it."""
        rate = self._options.connect_rate
        if rate is None or self._address is None:
            return
        rates = self._node.part(ConnectRates)
        if wait := await rates.wait(self._address, parse_rate(rate)):
            logger.warning("refused, an address connects too often (CONNECT_RATE)")
            _refuse(Refusal.RATE_LIMITED, math.ceil(wait))

    async def check_address(self, opening: Opening) -> None:
        """Check how many connections the client's address has, this one included."""
        limit = self._options.max_connections_per_address
        if limit is None or self._address is None:
            return
        name = f"address\n{self._address}"
        members = await self._node.part(Census, name).enter(name, opening.key)
        if opening.key not in {member.id for member in members[:limit]}:
            logger.warning(
                "refused, an address has %d connections (MAX_CONNECTIONS_PER_ADDRESS)",
                limit,
            )
            _refuse(Refusal.TOO_MANY_CONNECTIONS, AGAIN)

    async def check_user(self, opening: Opening) -> None:
        """Check how many connections the user has; close the oldest, or refuse this one."""
        limit = self._options.max_connections_per_user
        if limit is None or (key := key_of(opening.socket)) is None:
            return
        name = f"user\n{key}"
        members = await self._node.part(Census, name).enter(name, opening.key)
        if len(members) <= limit:
            return
        if not self._options.refuse_newest:
            older = [member.id for member in members if member.id != opening.key]
            for id in older[: len(members) - limit]:
                begin(_close(self._node, id))
        elif opening.key not in {member.id for member in members[:limit]}:
            logger.warning(
                "refused, a user has %d connections (MAX_CONNECTIONS_PER_USER)", limit
            )
            _refuse(Refusal.TOO_MANY_CONNECTIONS, AGAIN)


async def _close(node: Node, id: str) -> None:
    """Close the connection `id`, in whatever process it is, with 4429."""
    try:
        await node.commands.send("replace", {"key": id})
    except BroadcastError as error:
        logger.error("the oldest connection of a user may be open still: %s", error)


def _refuse(reason: Refusal, seconds: int) -> None:
    refusals.count(reason)
    raise ConnectionRefused(429, reason, {"retry-after": str(seconds)})
