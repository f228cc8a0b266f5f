"""What we do when Django says that something happened."""

from __future__ import annotations

import asyncio
from typing import Any

from .exceptions import BroadcastError
from .logs import get_logger
from .pubsub import adisconnect_user, disconnect_user

logger = get_logger("phx_protocol.socket")
_tasks: set[asyncio.Task[None]] = set()


def close_sockets_of(sender: Any, user: Any, **kwargs: Any) -> None:
    """``user_logged_out``: the user's sockets close, on every process. Never fails a logout."""
    if user is None or user.pk is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        try:
            disconnect_user(user)
        except (BroadcastError, RuntimeError) as error:
            _say(user, error)
    else:  # where nothing may wait
        task = loop.create_task(_close_sockets_of(user))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def _close_sockets_of(user: Any) -> None:
    try:
        await adisconnect_user(user)
    except BroadcastError as error:
        _say(user, error)


def _say(user: Any, error: Exception) -> None:
    logger.error("sockets of the user %s may be open still: %s", user.pk, error)
