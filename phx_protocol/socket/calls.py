"""Calls: how the server of a topic calls the methods of a channel, and answers with their results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .. import signals
from ..concurrency import callbacks
from ..concurrency.callbacks import AsyncCallable
from ..concurrency.tasks import is_cancelled
from ..exceptions import InvalidPayload
from ..wire.messages import Message, Reply
from ..wire.reasons import Refusal
from ..wire.serializers import LARGE_FRAME
from . import endings
from .channel import Channel
from .events import Handler, parse_answer

if TYPE_CHECKING:
    from .server import ChannelServer

#: the result of a callback: the status of the reply (None: no reply), or the exception that it raised
Outcome = str | BaseException | None


async def call_user(
    server: ChannelServer, channel: Channel, call: AsyncCallable, *args: Any
) -> Outcome:
    """Call a callback, reply with its result, and end the channel if it raises an error."""
    message = server.message
    task = server.task
    outcome: Outcome = None
    try:
        callbacks.close_stale_connections_if_due()
        answer = await call(channel, *args)
        if answer is None or message is None:
            pass
        elif server.task is task and server.channel is channel:
            outcome, payload = parse_answer(answer) or ("ok", {})
            join_ref, topic = server.channel_join_ref, server.topic
            reply = Reply(join_ref, message.ref, topic, outcome, payload)
            if server.size < LARGE_FRAME:
                server.connection.push(reply)
            else:
                with server.charged():
                    server.connection.push(reply)
    except asyncio.CancelledError as error:
        if server.task is not task or is_cancelled():
            raise
        # the callback awaited something that was cancelled
        await endings.crash(server, channel, error)
        return error
    except Exception as error:
        await endings.crash(server, channel, error)
        return error
    if channel.__phx__.stop_reason is not None:
        await server.stop_if_wanted(channel.__phx__)
    return outcome


async def handle_event(
    server: ChannelServer, channel: Channel, handler: Handler, message: Message
) -> Outcome:
    """Handle an event with its ``@event`` method."""
    try:
        call = handler.call
        if server.size < LARGE_FRAME:
            payload = handler.decode(message.payload)
        else:
            with server.charged():
                payload = handler.decode(message.payload)
    except InvalidPayload as invalid:
        reason, join_ref = Refusal.INVALID_PAYLOAD, server.channel_join_ref
        server.connection.refuse(message, reason, join_ref, **invalid.details)
        return "error"
    except Exception as error:
        await endings.crash(server, channel, error)
        return error
    return await call_user(server, channel, call, payload)


def emit_handled_in(
    channel: Channel, message: Message, outcome: Outcome, seconds: float
) -> None:
    raised = isinstance(outcome, BaseException)
    signals.channel_handled_in.emit(
        type(channel),
        channel=channel,
        event=message.event,
        payload=message.payload,
        ref=message.ref,
        duration=seconds,
        status=None if raised else outcome,
        exception=outcome if raised else None,
    )
