"""Probes: the URLs at which a balancer asks whether a process lives, and takes clients.

The answers come from what the process knows already, so they wait for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import parse_qsl

from ..node.node import Node, all_nodes, get_node
from .http import Send, respond

#: what ``readiness`` can be asked for, and what is said if it is away
NEEDS = {"layer": "the channel layer is away", "state": "the state is away"}


class Probes:
    """The two URLs that ``get_phoenix_application(health=...)`` answers before Django does."""

    def __init__(self, path: str) -> None:
        path = "/" + path.strip("/")
        self._live = {path, f"{path}/", f"{path}/live"}
        self._ready = f"{path}/ready"

    def answers(self, path: str) -> bool:
        """Return whether `path`, below the script prefix, is one of them."""
        return path in self._live or path == self._ready

    async def answer(self, scope: dict[str, Any], send: Send) -> None:
        """Answer a request for which ``answers`` is true."""
        if scope["method"] not in ("GET", "HEAD"):
            status, text = 405, "GET or HEAD"
        elif scope["path_remaining"] in self._live:
            status, text = 200, "ok"
        else:
            status, text = readiness(scope.get("query_string", b"").decode("latin-1"))
        body = b"" if scope["method"] == "HEAD" else text.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"cache-control", b"no-store"),
        ]
        await respond(send, status, body, headers)


def readiness(query: str) -> tuple[int, str]:
    """Return the status, and the text that explains it."""
    needs = {name for name, _ in parse_qsl(query, keep_blank_values=True)} & {*NEEDS}
    if needs:
        _watch(get_node())
    lacks = sorted({lack for node in all_nodes() for lack in _lacks(node, needs)})
    return (503, ", ".join(lacks)) if lacks else (200, "ok")


def _lacks(node: Node, needs: Collection[str]) -> Iterator[str]:
    if node.drainer.is_on:
        yield "draining"
    if "layer" in needs and node.link.is_failing:
        yield NEEDS["layer"]
    if "state" in needs and any(h.outage.is_on for h in node.placement.in_use):
        yield NEEDS["state"]


def _watch(node: Node) -> None:
    """Let `node` notice when the layer or the state goes or comes, also while it has no clients."""
    node.keep_alive(_watch)
    node.start_heartbeats()
