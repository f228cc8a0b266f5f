"""What we do when Django says that something happened."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from .exceptions import BroadcastError
from .logs import get_logger
from .pubsub import adisconnect_user, disconnect_user
from .pubsub.node import serving_nodes

#: seconds that a development server that reloads waits for its sockets
RELOAD_PATIENCE = 1.0

logger = get_logger("phx_protocol.socket")
_tasks: set[asyncio.Task[None]] = set()


def close_sockets_of(
    sender: Any, user: Any, request: Any = None, **kwargs: Any
) -> None:
    """``user_logged_out``: the user's sockets close, on every process. Never fails a logout."""
    if user is None or user.pk is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _forget_session(request)
        transaction.on_commit(functools.partial(_disconnect, user), robust=True)
    else:  # where nothing may wait
        task = loop.create_task(_close_sockets_of(user))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def close_sockets_to_reload(sender: Any, file_path: Path, **kwargs: Any) -> None:
    """``file_changed``: the server starts anew, and pages shall come back at once. It hardly waits."""
    if file_path.suffix != ".py":
        return  # which does not always restart it
    closing = [
        asyncio.run_coroutine_threadsafe(node.drainer.at_once(), node.loop)
        for node in serving_nodes()
    ]
    concurrent.futures.wait(closing, timeout=RELOAD_PATIENCE)


def _forget_session(request: Any) -> None:
    # Django ends the session after this signal, and a client is back within ten milliseconds:
    # it must not find it still there
    session = getattr(request, "session", None)
    if session is not None and not settings.SESSION_ENGINE.endswith("signed_cookies"):
        session.delete(session.session_key)


def _disconnect(user: Any) -> None:
    try:
        disconnect_user(user)
    except (BroadcastError, RuntimeError) as error:
        _say(user, error)


async def _close_sockets_of(user: Any) -> None:
    try:
        await adisconnect_user(user)
    except BroadcastError as error:
        _say(user, error)


def _say(user: Any, error: Exception) -> None:
    logger.error("sockets of the user %s may be open still: %s", user.pk, error)
