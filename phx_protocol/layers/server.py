"""Server: one Redis of the hosts in the settings, to which redis-py connects."""

from __future__ import annotations

import asyncio
from typing import Any

from channels_redis.utils import create_pool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError

from .connection import Connection, Owner

#: most seconds until a connection is made, authenticated and known as that of a primary
TIMEOUT = 10.0
#: the timeouts of redis-py
LIMITS = ("socket_timeout", "socket_connect_timeout")


class Server:
    """Makes connections to one host, as redis-py does: TLS, users, Unix sockets, sentinels.

    `timeout` is the number of seconds for each step of that, and in which a sentinel must answer; a
    timeout in `host` wins. `patience` is that of an answer.
    """

    def __init__(self, host: dict[str, Any], timeout: float | None = None) -> None:
        # redis-py speaks RESP2 until the connection is ours: then nothing arrives but what it has
        # asked for, so nothing stays in its buffers
        self._pool = create_pool({**host, "protocol": 2})
        options = self._pool.connection_kwargs
        for name in [n for n in options if n.startswith("maint_notifications")]:
            del options[name]
        # whoever has the connection tries again
        never = Retry(NoBackoff(), 0)
        limits = dict.fromkeys(LIMITS, timeout) if timeout is not None else {}
        options.update({**limits, **options, "protocol": 2, "retry": never})
        for sentinel in self._sentinels:  # for them the host has no timeouts
            known = sentinel.connection_pool.connection_kwargs
            known.update({**limits, "retry": never})
        self.patience: float = options.get("socket_timeout") or TIMEOUT

    async def connect(self, owner: Owner) -> Connection:
        """Return a new connection that reports to `owner`. Raises errors of redis-py, or OSError."""
        opened, connection = self._pool.make_connection(), None
        try:
            async with asyncio.timeout(TIMEOUT):
                await opened.connect()
                connection = Connection(owner, opened)
                async with asyncio.timeout(self.patience):
                    await connection.begin()
        except BaseException as error:
            if connection is None:
                await opened.disconnect(nowait=True)
            else:
                connection.abort(ConnectionError("the connection cannot be used"))
            if isinstance(error, TimeoutError):
                late = (
                    f"Redis has not answered in {min(TIMEOUT, self.patience):g} seconds"
                )
                raise ConnectionError(late) from error
            raise
        return connection

    async def close(self) -> None:
        """Close what redis-py has opened: the connections to sentinels."""
        for sentinel in self._sentinels:
            await sentinel.aclose()

    @property
    def _sentinels(self) -> list[Any]:
        """The clients of redis-py that ask the sentinels."""
        manager = getattr(self._pool, "sentinel_manager", None)
        return list(manager.sentinels) if manager else []
