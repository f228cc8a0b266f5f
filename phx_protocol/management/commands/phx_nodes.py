"""manage.py phx_nodes: list the processes that serve sockets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from phx_protocol.introspection import list_nodes
from phx_protocol.management.operators import ListCommand, ago


class Command(ListCommand):
    help = (
        "Lists the processes that serve sockets: their names are what phx_drain takes."
    )
    columns = (
        *("NODE", "HOST", "PID", "SOCKETS", "LOAD", "UP"),
        *("VERSION", "REDIS", "STATUS"),
    )
    empty = "No process serves sockets."

    def rows(self, **options: Any) -> Iterable[tuple[Any, Sequence[Any]]]:
        for node in list_nodes():
            status = "draining" if node.is_draining else "serving"
            version = node.versions.get("phx_protocol", "?")
            load, up = f"{node.load:.0%}", ago(node.started_at)
            cells = (node.name, node.host, node.pid, node.sockets, load, up, version)
            slowest = max(node.round_trips.values(), default=None)
            redis = "-" if slowest is None else f"{slowest * 1000:.1f} ms"
            yield node, (*cells, redis, status)
