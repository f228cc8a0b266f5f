"""get_phoenix_application(): Django and the Phoenix sockets in one ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django
from channels.routing import URLRouter
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import get_script_prefix
from django.urls import get_script_prefix as current_script_prefix
from django.urls import re_path, set_script_prefix

from .bus.bus import is_on
from .concurrency import garbage
from .node.node import get_node
from .node.part import SERVING
from .socket.connect_info import ConnectInfo
from .transports.http import Receive, Send, respond
from .transports.lifespan import Application, lifespan
from .transports.probes import Probes
from .transports.request import HandshakeRequest
from .transports.servers.daphne import is_daphne_process
from .transports.websocket.consumer import SERVER_SEND


def get_phoenix_application(
    sockets: Mapping[str, Any] | None = None,
    *,
    http: Application | None = None,
    health: str | None = None,
) -> Application:
    """Return the application for ``asgi.py``: it serves `sockets`, and Django the other URLs.

    `sockets` maps mounts to Socket classes (or dotted paths), default the setting SOCKETS.
    `http` serves all other requests, and gets the server's lifespan events if it handles them;
    default ``get_asgi_application()``, which does not. A path is read as Django reads it: without
    FORCE_SCRIPT_NAME, or the server's root path, if it begins with that.

    `health` is a path such as ``"/healthz"``: a GET of it is answered 200 as long as the process
    lives, and of ``/healthz/ready`` 200, or 503 while it drains. With ``?layer`` or ``?state`` it is
    503 also while the channel layer or the state is away. Neither reaches Django. The errors and warnings
    of the system checks are logged, once a process.
    """
    if not apps.ready:  # first: the rest needs Django
        django.setup(set_prefix=False)
    other: Any = http or get_asgi_application()
    from .routing import patterns

    mounts = patterns(sockets)
    websocket_router = _router(mounts, _not_found)
    http_router = _router(mounts, _without_route(other))

    probes = None if health is None else Probes(health)
    is_first = True

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            if is_on():
                get_node().welcome_neighbours()
            for begin in SERVING:
                begin(get_node())
        if scope["type"] in ("http", "websocket") and "path_remaining" not in scope:
            # a copy would stay as long as the connection; URLRouter makes one anyway
            prefix = get_script_prefix(scope)
            scope["path_remaining"] = _path_below(prefix, scope)
            # Django has it with a slash at its end; setting it takes 0.6 KiB for good
            if f"{prefix.removesuffix('/')}/" != current_script_prefix():
                set_script_prefix(prefix)  # for reverse(), in channels too
        if scope["type"] == "http":
            # without the script prefix: a probe may know it or not
            if probes and probes.answers(scope["path_remaining"]):
                await probes.answer(scope, send)
            else:
                await http_router(scope, receive, send)
        elif scope["type"] == "websocket":
            # inner middleware may wrap send; frames go to the server's own
            scope[SERVER_SEND] = send
            await websocket_router(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(http, scope, receive, send)
        else:
            raise ValueError(f"no application for the scope type {scope['type']!r}")

    if is_daphne_process():
        garbage.settle()  # the others do that at lifespan.startup
    return application


def _router(mounts: list[Any], rest: Any) -> Any:
    # Any: asgiref's types distinguish scopes and messages that only pass through here
    elsewhere: Any = re_path(r"", rest)
    return URLRouter([*mounts, elsewhere])


def _path_below(prefix: str, scope: dict[str, Any]) -> str:
    """Return the path without the script prefix, as this version of Django reads it.

    URLRouter would raise an error for a root path that is not a prefix of the path, and any
    client of Daphne can send one in a header.
    """
    path: str = (
        HandshakeRequest(ConnectInfo(scope)).path_info if prefix else scope["path"]
    )
    return path


def _without_route(other: Application) -> Any:
    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        # Django resolves the URL itself
        await other({k: v for k, v in scope.items() if k != "url_route"}, receive, send)

    return application


async def _not_found(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await respond(send, 404, b"Not Found", kind="websocket.http")
    else:
        await send({"type": "websocket.close", "code": 1008})
