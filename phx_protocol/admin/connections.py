"""The pages of connections: their list, and how to disconnect one, or all of a user."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.http import HttpRequest, HttpResponse

from ..api import disconnect_socket, disconnect_user
from ..introspection import SocketInfo, list_sockets
from ..introspection.queries import LIMIT
from ..models import Connection
from .listing import columns, counted, matches, page_of
from .live import LiveAdmin, Page, has_perm, to_datetime, visibility
from .urls import address_of

#: the columns and the orders of each
COLUMNS = [
    ("Connection", []),
    ("User", ["user", "-user"]),
    ("Node", ["node", "-node"]),
    ("Transport", ["transport", "-transport"]),
    ("Connected since", ["since", "-since"]),
    ("Last seen", ["seen", "-seen"]),
    ("Buffered", ["-buffered", "buffered"]),
]
KEYS: dict[str, Callable[[SocketInfo], Any]] = {
    "user": lambda info: (info.username or "").casefold(),
    "node": lambda info: info.node,
    "transport": lambda info: info.transport,
    "since": lambda info: info.opened_at,
    "seen": lambda info: info.last_seen,
    "buffered": lambda info: info.buffered_bytes,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A connection in a table.

    `silent` is how many seconds ago it was last seen, `of_user` links to all connections of its
    user.
    """

    info: SocketInfo
    since: datetime.datetime
    silent: int
    of_user: str
    disconnect: str


@admin.register(Connection)
class ConnectionAdmin(LiveAdmin):
    """The admin of connections; ``?user=`` (a primary key) and ``?q=`` filter its list."""

    def pages(self) -> list[Page]:
        one, all_of_user = self.disconnect_view, self.disconnect_user_view
        needs = "disconnect_connection"
        return [
            *super().pages(),
            ("user/<path:user>/disconnect/", "disconnect_user", all_of_user, needs),
            ("<path:object_id>/disconnect/", "disconnect", one, needs),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        query, user = request.GET.get("q", ""), request.GET.get("user") or None
        sockets = list_sockets(user=user)
        of = f" of {_named(user, sockets)}" if user else ""
        context = {
            "title": f"Connections{of}",
            "query": query,
            "user_key": user,
            "visibility": visibility(),
            **sockets_table(self, request, sockets, query),
        }
        if user and has_perm(request, "disconnect_connection"):
            url = self.address("connection_disconnect_user", quote(user))
            context["disconnect_user"] = url
        return self.render(request, "connections", context)

    def disconnect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        id = str(unquote(object_id))
        found = [socket for socket in list_sockets() if socket.id == id]
        called = f"the connection {id}"
        if found and found[0].username:
            called = f"{called} of {found[0].username}"
        action = functools.partial(disconnect_socket, id)
        return self._disconnect(request, Connection(id=id), called, found, action)

    def disconnect_user_view(self, request: HttpRequest, user: str) -> HttpResponse:
        key = str(unquote(user))
        found = list_sockets(user=key)
        more = "at least " if is_cut(found) else ""
        count = counted(len(found), "connection")
        called = f"{more}{count} of {_named(key, found)}"
        action = functools.partial(disconnect_user, key)
        on = Connection(id=f"all of user {key}")
        return self._disconnect(request, on, called, found, action)

    def _disconnect(
        self,
        request: HttpRequest,
        on: Connection,
        called: str,
        found: list[SocketInfo],
        action: Callable[[], None],
    ) -> HttpResponse:
        back = self._back(request)
        if request.method == "POST":
            return self.act(request, action, on, f"Disconnected {called}.", back)
        context = {
            "title": f"Disconnect {called}?",
            "back": back,
            "visibility": visibility(),
            **sockets_table(self, request, found),
            "may_disconnect": False,  # no link for one: this page disconnects all of them
        }
        return self.render(request, "disconnect", context)

    def _back(self, request: HttpRequest) -> str:
        """Return the URL of the topic's page from which the user came, or of the list."""
        topic = request.GET.get("topic")
        if not topic:
            return self.address("connection_changelist")
        return self.address("topic_change", quote(unquote(topic)))


def sockets_table(
    admin: LiveAdmin,
    request: HttpRequest,
    sockets: list[SocketInfo],
    query: str = "",
    topic: str | None = None,
) -> dict[str, Any]:
    """Return the context of the table's template: one page of the sockets that match `query`.

    `topic` is given if the table is on the page of a topic.
    """
    back = "" if topic is None else "?" + urlencode({"topic": address_of(topic)})
    order = request.GET.get("o", "")
    chosen = [socket for socket in sockets if _matches(query, socket)]
    if key := KEYS.get(order.removeprefix("-")):
        chosen.sort(key=key, reverse=order.startswith("-"))
    shown = page_of(request, chosen, "connection")
    may_disconnect = has_perm(request, "disconnect_connection")
    last: list[tuple[str, list[str]]] = [("Action", [])] if may_disconnect else []
    return {
        **shown,
        "columns": columns(order, [*COLUMNS, *last]),
        "rows": [_row(admin, socket, back) for socket in shown["page"]],
        "limit": LIMIT if is_cut(sockets) else None,
        "may_disconnect": may_disconnect,
    }


def is_cut(sockets: list[SocketInfo]) -> bool:
    """Return whether a node may have more sockets than it listed."""
    nodes = Counter(socket.node for socket in sockets)
    return max(nodes.values(), default=0) >= LIMIT


def _row(admin: LiveAdmin, info: SocketInfo, back: str) -> Row:
    of_user = urlencode({"user": info.user or ""})
    return Row(
        info=info,
        since=to_datetime(info.opened_at),
        silent=max(0, round(time.time() - info.last_seen)),
        of_user=f"{admin.address('connection_changelist')}?{of_user}",
        disconnect=admin.address("connection_disconnect", quote(info.id)) + back,
    )


def _matches(query: str, socket: SocketInfo) -> bool:
    names = (socket.id, socket.name, socket.user, socket.username, socket.node)
    return matches(query, *names, socket.transport)


def _named(user: str, sockets: list[SocketInfo]) -> str:
    """Return the name of the user with this primary key, as the connections know it."""
    names = [socket.username for socket in sockets if socket.username]
    return names[0] if names else f"the user {user}"
