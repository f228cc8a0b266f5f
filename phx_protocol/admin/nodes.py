"""The page of nodes: the processes that serve sockets, and their load."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from ..introspection import NodeInfo, list_nodes
from ..introspection.infos import disagree
from ..models import Node
from .live import LiveAdmin, to_datetime, visibility


@admin.register(Node)
class NodeAdmin(LiveAdmin):
    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        infos = list_nodes()
        nodes = [
            (node, to_datetime(node.started_at), _round_trips(node)) for node in infos
        ]
        context = {
            "title": "Nodes",
            "nodes": nodes,
            "disagree": disagree(infos),
            "visibility": visibility(),
        }
        return self.render(request, "nodes", context)


def _round_trips(node: NodeInfo) -> list[tuple[str, str]]:
    """Return each server of the state, and how long it takes to answer."""
    return [
        (server, f"{seconds * 1000:.1f} ms")
        for server, seconds in sorted(node.round_trips.items())
    ]
