"""Server: one Redis of the layer's hosts, to which redis-py connects."""

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


class Server:
    """Makes connections to one host, as redis-py does: TLS, users, Unix sockets, sentinels."""

    def __init__(self, host: dict[str, Any]) -> None:
        # redis-py speaks RESP2 until the connection is ours: then nothing arrives but what it has
        # asked for, so nothing stays in its buffers
        self._pool = create_pool({**host, "protocol": 2})
        options = self._pool.connection_kwargs
        for name in [n for n in options if n.startswith("maint_notifications")]:
            del options[name]
        # the shard tries again itself
        options.update(protocol=2, retry=Retry(NoBackoff(), 0))

    async def connect(self, owner: Owner) -> Connection:
        """Return a new connection that reports to `owner`. Raises errors of redis-py, or OSError."""
        opened, connection = self._pool.make_connection(), None
        try:
            async with asyncio.timeout(TIMEOUT):
                await opened.connect()
                connection = Connection(owner, opened)
                await connection.begin()
        except BaseException as error:
            if connection is None:
                await opened.disconnect(nowait=True)
            else:
                connection.abort(ConnectionError("the connection cannot be used"))
            if isinstance(error, TimeoutError):
                late = f"Redis has not answered in {TIMEOUT:g} seconds"
                raise ConnectionError(late) from error
            raise
        return connection

    async def close(self) -> None:
        """Close what redis-py has opened: the connections to sentinels."""
        sentinels = getattr(self._pool, "sentinel_manager", None)
        for sentinel in getattr(sentinels, "sentinels", ()):
            await sentinel.aclose()
