"""broadcast() and its variants, for views, tasks, commands and shells."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import msgspec
from django.db import transaction

from ..auth.tabs import Tab
from ..exceptions import BroadcastError
from ..logs.printable import describe, shown
from ..node import blocking
from ..node.node import get_node
from ..pubsub import message as layer_message
from ..pubsub.replies import ReplyRef
from ..socket.routes import channels_of, history_of
from ..wire import json
from ..wire.messages import Broadcast


async def abroadcast(
    topic: str, event: str, payload: Any, *, exclude: Any = None
) -> None:
    """Send an event to every client that has joined `topic`, in every process.

    `payload` is a mapping (anything msgspec encodes as a JSON object) or ``bytes``. `exclude` is a
    request of Django: the page that made it is left out, if the request names the page's connection
    (``identify`` of session.js). When this returns, it was delivered to the clients of this process,
    and the channel layer accepted it for the others. Raises EncodeError for a payload that cannot be sent, or that does not fit
    the type in ``Channel.pushes`` of the topic's channel class; BroadcastError if the layer did
    not accept it. Mirrors ``Phoenix.Endpoint.broadcast/3``.
    """
    await _abroadcast(message_of(topic, event, payload, sender_of(exclude)))


async def abroadcast_from(
    sender: ReplyRef | str, topic: str, event: str, payload: Any
) -> None:
    """Do as ``abroadcast``, but leave out the channel `sender` (a reply ref, or a channel id)."""
    await _abroadcast(message_of(topic, event, payload, sender))


def broadcast(topic: str, event: str, payload: Any, *, exclude: Any = None) -> None:
    """Broadcast from synchronous code: views, tasks, signal receivers, commands, the shell.

    It does what ``abroadcast`` does, without a new event loop or connection for each call. Raises
    RuntimeError on a running event loop: use ``await abroadcast(...)`` there.
    """
    _broadcast(message_of(topic, event, payload, sender_of(exclude)))


def broadcast_from(
    sender: ReplyRef | str, topic: str, event: str, payload: Any
) -> None:
    """Do as ``broadcast``, but leave out the channel `sender` (a reply ref, or a channel id)."""
    _broadcast(message_of(topic, event, payload, sender))


def broadcast_on_commit(
    topic: str,
    event: str,
    payload: Any,
    using: str | None = None,
    *,
    exclude: Any = None,
) -> None:
    """Call ``broadcast`` after the current transaction is committed, and not if it is rolled back.

    `payload` is encoded now; `exclude` is as for ``abroadcast``. `using` names the database, as in ``transaction.on_commit``. Django
    logs an error of the broadcast after the commit; the error does not undo anything.
    """
    message = message_of(topic, event, payload, sender_of(exclude))
    send = functools.partial(_broadcast_committed, message)
    transaction.on_commit(send, using=using, robust=True)


async def local_broadcast(topic: str, event: str, payload: Any) -> None:
    """Broadcast to the clients of this process only.

    Mirrors ``Phoenix.Endpoint.local_broadcast/3``.
    """
    get_node().pubsub.deliver(message_of(topic, event, payload))


async def reply(ref: ReplyRef, status: str = "ok", payload: Any = None) -> None:
    """Answer the event that ``Channel.reply_ref()`` stands for, from any process.

    A reply to a channel that has ended is lost. Raises BroadcastError if the layer did not
    accept it. Mirrors ``Phoenix.Channel.reply/2``.
    """
    payload = {} if payload is None else payload
    node = get_node()
    if node.pubsub.replies.send(ref, status, payload):
        return
    blocking.warn_if_nobody_hears("reply")
    raw = json.encode_payload(payload)
    message = {
        "type": layer_message.REPLY,
        "v": layer_message.VERSION,
        "ref": dataclasses.asdict(ref),
        "status": status,
        "payload": raw if isinstance(raw, bytes) else bytes(raw).decode(),
    }
    try:
        await node.link.send(ref.node, message)
    except Exception as error:
        raise BroadcastError(
            f"the channel layer did not take the reply: {describe(error)}"
        ) from error


def sender_of(request: Any) -> str | None:
    """Return the sender of a broadcast that leaves out the page of `request`."""
    tab = None if request is None else Tab.of(request)
    return tab and tab.sender


def trace_headers() -> dict[str, str] | None:
    """Return headers of the current trace, for a broadcast that is sent later; OpenTelemetry replaces this."""
    return None


def message_of(
    topic: str, event: str, payload: Any, sender: ReplyRef | str | None = None
) -> Broadcast:
    """Return a broadcast with its payload encoded. Raises TypeError, EncodeError."""
    if not isinstance(topic, str) or not isinstance(event, str):
        raise TypeError(
            f"topic and event are strings, not {shown(topic, 100)} and {shown(event, 100)}"
        )
    declaring = [c for c in channels_of(topic) if event in c.__phx_tables__.pushes]
    sent = [
        channel_class.__phx_tables__.sent(event, payload) for channel_class in declaring
    ]
    raw = json.encode_payload(sent[0] if sent else payload)
    id = sender.channel_id if isinstance(sender, ReplyRef) else sender
    return Broadcast(topic, event, raw, None, time.time(), sender=id)


async def _abroadcast(message: Broadcast) -> None:
    blocking.warn_if_nobody_hears("abroadcast")
    node = get_node()
    history = history_of(message.topic)
    published = await node.pubsub.publish(message, history)
    if published is not None:
        await published
    await node.pubsub.yield_to_loop()


def _broadcast_committed(message: Broadcast) -> None:
    now = time.time()
    _broadcast(msgspec.structs.replace(message, sent_at=now, committed_at=now))


def _broadcast(message: Broadcast) -> None:
    try:
        blocking.run(_abroadcast(message), "broadcast", "await abroadcast(...)")
    except TimeoutError as error:
        raise BroadcastError(f"the channel layer did not answer: {error}") from error
