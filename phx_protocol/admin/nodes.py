"""The page of nodes: the processes that serve sockets, and their load."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from ..introspection import list_nodes
from ..models import Node
from .live import LiveAdmin, moment, sight


@admin.register(Node)
class NodeAdmin(LiveAdmin):
    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        nodes = [(node, moment(node.started_at)) for node in list_nodes()]
        context = {"title": "Nodes", "nodes": nodes, "sight": sight()}
        return self.render(request, "nodes", context)
