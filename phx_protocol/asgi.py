"""get_phoenix_application(): Django and the Phoenix sockets in one ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django
from channels.routing import URLRouter
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import get_script_prefix
from django.urls import re_path, set_script_prefix

from .checks import report
from .transports.http import Receive, Send, respond
from .transports.lifespan import Application, lifespan
from .transports.request import HandshakeRequest
from .transports.websocket.consumer import SERVER_SEND


def get_phoenix_application(
    sockets: Mapping[str, Any] | None = None, *, http: Application | None = None
) -> Application:
    """The application for ``asgi.py``: the mounts of `sockets`, everything else to Django.

    `sockets` maps mounts to Socket classes (or dotted paths), default the setting SOCKETS.
    `http` serves what is not ours, and has the server's lifespan events, if it wants them;
    default ``get_asgi_application()``, which does not. A path is taken as Django takes it: without
    FORCE_SCRIPT_NAME, or the server's root path, where it begins with that. What the system checks
    find is logged, once a process.
    """
    if not apps.ready:  # first: what follows needs Django
        django.setup(set_prefix=False)
    report()
    other: Any = http or get_asgi_application()
    from .routing import patterns

    mounts = patterns(sockets)
    websocket_router = _router(mounts, _not_found)
    http_router = _router(mounts, _without_route(other))

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and "path_remaining" not in scope:
            scope = {**scope, "path_remaining": _path_below(scope)}
            set_script_prefix(
                get_script_prefix(scope)
            )  # for reverse(), in channels too
        if scope["type"] == "http":
            await http_router(scope, receive, send)
        elif scope["type"] == "websocket":
            # middleware further in may wrap send; frames take the server's own
            scope[SERVER_SEND] = send
            await websocket_router(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(http, scope, receive, send)
        else:
            raise ValueError(f"no application for the scope type {scope['type']!r}")

    return application


def _router(mounts: list[Any], rest: Any) -> Any:
    # Any: asgiref's types tell scopes and messages apart that only pass through here
    elsewhere: Any = re_path(r"", rest)
    return URLRouter([*mounts, elsewhere])


def _path_below(scope: dict[str, Any]) -> str:
    """The path without the script prefix, as this version of Django takes it.

    URLRouter would raise for a root path that is no prefix, which any client of Daphne can send
    in a header.
    """
    is_below = get_script_prefix(scope) != ""
    path: str = HandshakeRequest(scope).path_info if is_below else scope["path"]
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
