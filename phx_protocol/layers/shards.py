"""Shards: the connections of one event loop, and which of them has a channel."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .server import is_cluster, server_name
from .shard import Owner, Shard

if TYPE_CHECKING:
    from .cluster_shard import ClusterShard

AnyShard: TypeAlias = "Shard | ClusterShard"


class Hosts(NamedTuple):
    """The servers on which messages are published, and other lists from which they are taken as well."""

    written: list[dict[str, Any]]
    others: list[list[dict[str, Any]]]


class Shards:
    """A shard for each server of `hosts`. A channel is on one server of each list.

    While the list of a site changes, some processes publish on the servers of one list, and some on those
    of another one; each is heard by all. A server of several lists has one shard, so nothing comes twice.
    """

    def __init__(self, hosts: Hosts, owner: Owner) -> None:
        made: dict[str, AnyShard] = {}
        for host in hosts.written + [host for some in hosts.others for host in some]:
            if (name := server_name(host)) not in made:
                made[name] = _shard(host, owner)
        self.all = list(made.values())
        self._lists = [
            [made[server_name(host)] for host in some]
            for some in (hosts.written, *hosts.others)
        ]

    def of(self, name: bytes) -> AnyShard:
        """Return the server on which messages to `name` are published."""
        return _of(self._lists[0], name)

    def listening(self, name: bytes) -> tuple[AnyShard, ...]:
        """Return the servers from which messages to `name` may come."""
        if len(self._lists) == 1:
            return (self.of(name),)
        return tuple(dict.fromkeys(_of(some, name) for some in self._lists))


def _of(shards: Sequence[AnyShard], name: bytes) -> AnyShard:
    """Return the one that channels_redis takes."""
    count = len(shards)
    if count == 1:
        return shards[0]
    return shards[int((binascii.crc32(name) & 0xFFF) / (4096 / count))]


def _shard(host: dict[str, Any], owner: Owner) -> AnyShard:
    if not is_cluster(host):
        return Shard(host, owner)
    # imported here: who has no cluster needs none of it
    from .cluster_shard import ClusterShard

    return ClusterShard(host, owner)
