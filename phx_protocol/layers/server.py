"""Server: one Redis of the hosts in the settings, to which redis-py connects."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit, urlunsplit

from channels_redis.utils import create_pool
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError

from .connection import Connection, Owner

#: most seconds until a connection is made, authenticated and known as that of a primary
TIMEOUT = 10.0
#: the timeouts of redis-py
LIMITS = ("socket_timeout", "socket_connect_timeout")
#: scheme in the address of a cluster -> that of its nodes
CLUSTERS = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


class Place(NamedTuple):
    """The host and the port of a node of a cluster."""

    host: str
    port: int


def is_cluster(host: dict[str, Any]) -> bool:
    """Return True if `host`, one of the settings, is a cluster: ``redis+cluster://10.0.0.1:6379``."""
    return urlsplit(str(host.get("address", ""))).scheme in CLUSTERS


def cluster_of(host: dict[str, Any]) -> tuple[list[Place], dict[str, Any]]:
    """Return the nodes of a cluster that `host` names, and arguments of redis-py for connections to them.

    Its address is ``redis+cluster://user:password@10.0.0.1:6379,10.0.0.2:6379``, or begins with
    ``rediss+cluster://`` for TLS; the nodes know the others. The rest of `host` are such arguments, too.
    Raises ValueError for an address that is none.
    """
    address, options = str(host["address"]), {**host}
    del options["address"]
    url = urlsplit(address)
    user, at, nodes = url.netloc.rpartition("@")
    places, known = [], dict[str, Any]()
    for node in nodes.split(","):
        one = url._replace(scheme=CLUSTERS[url.scheme], netloc=f"{user}{at}{node}")
        known = dict(parse_url(urlunsplit(one)))
        places.append(Place(known.pop("host", "localhost"), known.pop("port", 6379)))
    if known.pop("db", 0):
        raise ValueError(f"a Redis Cluster has no databases: {url.path}")
    if known.pop("connection_class", None) is SSLConnection:
        known["ssl"] = True
    return places, {**known, **options}


def name_of(host: dict[str, Any]) -> str:
    """Return what tells a host from others, without a password: ``"10.0.0.1:6379/0"``."""
    return "".join(_name_of(host))


def server_name(host: dict[str, Any]) -> str:
    """Return the name of a host without the database, which means nothing to publish and subscribe."""
    return _name_of(host)[0]


def _name_of(host: dict[str, Any]) -> tuple[str, str]:
    """Return the names of a server and of its database."""
    database = f"/{host.get('db') or 0}"
    if sentinels := host.get("sentinels"):
        places = ",".join(sorted(":".join(map(str, place)) for place in sentinels))
        return f"{host.get('master_name')} of {places}", database
    if address := host.get("address"):
        url = urlsplit(address)
        if is_cluster(host):
            nodes = url.netloc.rpartition("@")[2].split(",")
            return f"the cluster of {','.join(sorted(nodes))}", ""
        chosen = parse_qs(url.query).get("db", [""])[0]
        if url.scheme == "unix":
            return url.path, f"/{chosen or 0}"
        chosen = chosen or url.path.strip("/") or database.strip("/")
        return f"{url.hostname}:{url.port or 6379}", f"/{chosen}"
    if path := host.get("path"):
        return path, database
    return f"{host.get('host', 'localhost')}:{host.get('port', 6379)}", database


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
