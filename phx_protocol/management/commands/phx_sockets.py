"""manage.py phx_sockets: list the open connections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import CommandParser

from phx_protocol.introspection import list_sockets
from phx_protocol.introspection.queries import LIMIT
from phx_protocol.management.operators import ListCommand, ago


class Command(ListCommand):
    help = "Lists the open connections, over all processes: their ids are what phx_disconnect takes."
    columns = (
        *("SOCKET", "NAME", "USER", "NODE", "TRANSPORT"),
        *("OPEN", "SEEN", "BUFFERED", "TOPICS"),
    )
    empty = "No socket is open."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--topic", help="only those that have joined it")
        parser.add_argument("--user", help="only those of the user with this key")
        parser.add_argument(
            "--limit",
            type=int,
            default=LIMIT,
            help=f"of each process so many at the most (default {LIMIT})",
        )
        super().add_arguments(parser)

    def rows(self, **options: Any) -> Iterable[tuple[Any, Sequence[Any]]]:
        chosen = {name: options[name] for name in ("topic", "user", "limit")}
        for socket in list_sockets(**chosen):
            who = (socket.name or "-", socket.username or socket.user or "-")
            times = ago(socket.opened_at), ago(socket.last_seen)
            how = socket.node, socket.transport, *times, socket.buffered_bytes
            more = [f"(and {n} more)"] if (n := socket.more_topics) else []
            topics = " ".join([*socket.topics, *more]) or "-"
            yield socket, (socket.id, *who, *how, topics)
