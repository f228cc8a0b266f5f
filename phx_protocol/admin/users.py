"""The page of users: who is online, and what each has joined."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from ..introspection import SocketInfo, list_sockets
from ..introspection.queries import LIMIT
from ..models import OnlineUser
from .connections import is_cut
from .listing import columns, matches, page_of
from .live import LiveAdmin, has_perm, to_datetime, visibility
from .urls import address_of

#: the columns and the orders of each
COLUMNS = [
    ("User", ["user", "-user"]),
    ("Connections", ["-connections", "connections"]),
    ("Online since", ["since", "-since"]),
    ("Last seen", ["seen", "-seen"]),
    ("Topics", []),
]
#: most topics of a user that the page shows
TOPICS = 10


@dataclasses.dataclass(frozen=True)
class Row:
    """A user in the table. `topics` are pairs of a topic and the address of its page ("" without the
    permission to see it); `more` is how many it does not show."""

    key: str
    name: str
    connections: int
    of_user: str
    since: datetime.datetime
    silent: int
    topics: list[tuple[str, str]]
    more: int


@dataclasses.dataclass
class Online:
    """A user with connections."""

    key: str
    sockets: list[SocketInfo] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return next((s.username for s in self.sockets if s.username), self.key)

    @property
    def since(self) -> float:
        return min(socket.opened_at for socket in self.sockets)

    @property
    def last_seen(self) -> float:
        return max(socket.last_seen for socket in self.sockets)

    @property
    def topics(self) -> list[str]:
        return sorted({topic for socket in self.sockets for topic in socket.topics})

    @property
    def more_topics(self) -> int:
        """How many topics the nodes did not tell; some may be the same."""
        return sum(socket.more_topics for socket in self.sockets)


@admin.register(OnlineUser)
class OnlineUserAdmin(LiveAdmin):
    """The admin of users with connections; ``?q=`` filters by their name, key and topics."""

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        query, order = request.GET.get("q", ""), request.GET.get("o", "user")
        sockets = list_sockets()
        online = _by_user(sockets)
        chosen = [u for u in online if matches(query, u.key, u.name, *u.topics)]
        shown = page_of(request, _sorted(chosen, order), "user")
        context = {
            "title": "Users online",
            "query": query,
            "total": len(online),
            "columns": columns(order, COLUMNS),
            "rows": [self._row(request, user) for user in shown["page"]],
            "limit": LIMIT if is_cut(sockets) else None,
            "may_see_connections": has_perm(request, "view_connection"),
            **shown,
            "visibility": visibility(),
        }
        return self.render(request, "users", context)

    def _row(self, request: HttpRequest, user: Online) -> Row:
        topics, may_see = user.topics, has_perm(request, "view_topic")
        of_user = urlencode({"user": user.key})
        return Row(
            key=user.key,
            name=user.name,
            connections=len(user.sockets),
            of_user=f"{self.address('connection_changelist')}?{of_user}",
            since=to_datetime(user.since),
            silent=max(0, round(time.time() - user.last_seen)),
            topics=[
                (t, self.address("topic_change", address_of(t)) if may_see else "")
                for t in topics[:TOPICS]
            ],
            more=len(topics[TOPICS:]) + user.more_topics,
        )


def _by_user(sockets: Iterable[SocketInfo]) -> list[Online]:
    online: dict[str, Online] = {}
    for socket in sockets:
        if socket.user is not None:
            online.setdefault(socket.user, Online(socket.user)).sockets.append(socket)
    return list(online.values())


def _sorted(users: list[Online], order: str) -> list[Online]:
    keys: dict[str, Any] = {
        "user": lambda user: user.name.casefold(),
        "connections": lambda user: len(user.sockets),
        "since": lambda user: user.since,
        "seen": lambda user: user.last_seen,
    }
    key = keys.get(order.removeprefix("-"), keys["user"])
    return sorted(users, key=key, reverse=order.startswith("-"))
