"""broadcast() and its kin: what views, tasks, commands and shells call."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Coroutine
from typing import Any

from django.db import transaction

from ..conf import DRAINER, options
from ..exceptions import BroadcastError
from ..printable import in_words, shown
from ..socket import channels_of, history_of
from ..wire import json
from ..wire.messages import Broadcast
from . import blocking, ordered  # noqa: F401 - it registers itself
from . import message as layer_message
from .node import get_pubsub
from .relay import NoAnswer, ask_node
from .replies import ReplyRef


async def abroadcast(topic: str, event: str, payload: Any) -> None:
    """Send an event to every client that has joined `topic`, on every process.

    `payload` is a mapping (anything msgspec encodes as a JSON object) or ``bytes``. Clients of
    this process have it, and the channel layer took it, when this returns. Raises EncodeError
    for a payload that cannot be sent, or that the topic's channel class declares otherwise
    (``Channel.pushes``), BroadcastError when the layer did not take it. Mirrors
    ``Phoenix.Endpoint.broadcast/3``.
    """
    await _abroadcast(_message(topic, event, payload))


async def abroadcast_from(
    sender: ReplyRef | str, topic: str, event: str, payload: Any
) -> None:
    """As ``abroadcast``, to all but the channel `sender` (a reply ref, or a channel id)."""
    await _abroadcast(_message(topic, event, payload, sender))


def broadcast(topic: str, event: str, payload: Any) -> None:
    """``abroadcast`` for synchronous code: views, tasks, signal receivers, commands, the shell.

    No event loop and no connection is made per call. Raises RuntimeError on a running event
    loop, where only ``await abroadcast(...)`` is right.
    """
    _broadcast(_message(topic, event, payload))


def broadcast_from(
    sender: ReplyRef | str, topic: str, event: str, payload: Any
) -> None:
    """As ``broadcast``, to all but the channel `sender` (a reply ref, or a channel id)."""
    _broadcast(_message(topic, event, payload, sender))


def broadcast_on_commit(
    topic: str, event: str, payload: Any, using: str | None = None
) -> None:
    """``broadcast`` when the transaction that runs has been committed, and not if it is undone.

    `payload` is encoded now. `using` names the database, as in ``transaction.on_commit``. What
    is raised after the commit is logged by Django and does not undo anything.
    """
    message = _message(topic, event, payload)
    transaction.on_commit(
        functools.partial(_broadcast, message), using=using, robust=True
    )


async def local_broadcast(topic: str, event: str, payload: Any) -> None:
    """To the clients of this process only. Mirrors ``Phoenix.Endpoint.local_broadcast/3``."""
    get_pubsub().deliver(_message(topic, event, payload))


async def adisconnect(socket_id: str) -> None:
    """Close every socket whose ``id()`` is `socket_id`, on every process, with 1001.

    They are closed when this returns, and nothing more of what they sent is handled; one whose
    ``connect`` still runs is not let in. Raises BroadcastError when the layer did not take it,
    and after two seconds with the names of the nodes that did not answer. Mirrors
    ``Endpoint.broadcast(id, "disconnect", %{})``, which closes sockets here as well.
    """
    await abroadcast(socket_id, "disconnect", {})
    await _order("disconnect", {"id": socket_id})


def disconnect(socket_id: str) -> None:
    """``adisconnect`` for synchronous code."""
    _run(adisconnect(socket_id), "adisconnect")


async def adisconnect_socket(id: str) -> None:
    """Close one connection (``SocketInfo.id``), wherever it is, with 1001; its client connects
    again. Raises BroadcastError as ``adisconnect`` does.
    """
    await _order("disconnect_socket", {"id": id})


def disconnect_socket(id: str) -> None:
    """``adisconnect_socket`` for synchronous code."""
    _run(_order("disconnect_socket", {"id": id}), "adisconnect_socket")


async def aclose_topic(topic: str) -> None:
    """End every channel that has joined `topic`, on every process, as if it had stopped itself:
    with ``phx_close``, on which phoenix.js does not join again by itself.

    They have ended when this returns, whatever they were busy with: nothing more is delivered,
    and what waited is dropped. A join that is under way is refused with ``topic closed``. Raises
    BroadcastError as ``adisconnect`` does.
    """
    await _order("close_topic", {"topic": topic})


def close_topic(topic: str) -> None:
    """``aclose_topic`` for synchronous code."""
    _run(_order("close_topic", {"topic": topic}), "aclose_topic")


async def adisconnect_user(user: Any) -> None:
    """Close every socket of `user` (a user, or its primary key), on every process, with 1001;
    clients connect again.

    Called when a user logs out. Raises BroadcastError as ``adisconnect`` does.
    """
    await _order("disconnect_user", _of(user))


def disconnect_user(user: Any) -> None:
    """``adisconnect_user`` for synchronous code."""
    _run(_order("disconnect_user", _of(user)), "adisconnect_user")


def _of(user: Any) -> dict[str, Any]:
    return {"user": str(getattr(user, "pk", user))}


async def areauthorize(*, user: Any = None, topic: str | None = None) -> None:
    """Have channels ask again whether their client may be there: those of `user`, those of
    `topic`, or all, on every process. See ``Channel.reauthorize``.

    When this returns all have asked, and channels whose client may not be there have ended; a join
    that is under way asks before it is answered. Raises BroadcastError as ``adisconnect`` does.
    """
    await _order("reauthorize", _chosen(user, topic))


def reauthorize(*, user: Any = None, topic: str | None = None) -> None:
    """``areauthorize`` for synchronous code."""
    _run(_order("reauthorize", _chosen(user, topic)), "areauthorize")


def _chosen(user: Any, topic: str | None) -> dict[str, Any]:
    return {"user": None if user is None else _of(user)["user"], "topic": topic}


async def _order(name: str, body: dict[str, Any]) -> None:
    """To the sockets of all nodes, and of all loops of this process."""
    blocking.warn_if_nobody_hears(f"a{name}")
    await get_pubsub().orders.give(name, body)


async def apassword_changed(user: str, digests: list[str]) -> None:
    """Close the sockets of the user with that primary key which another password let in."""
    body = {"user": user, "digests": digests}
    await get_pubsub().orders.give("password_changed", body)


def password_changed(user: str, digests: list[str]) -> None:
    """``apassword_changed`` for synchronous code."""
    _run(apassword_changed(user, digests), "apassword_changed")


async def asession_ended(digest: str, user: str) -> None:
    """Close the sockets that the session whose key has that digest let in, but those of `user`."""
    body = {"session": digest, "user": user}
    await get_pubsub().orders.give("session_ended", body)


def session_ended(digest: str, user: str) -> None:
    """``asession_ended`` for synchronous code."""
    _run(asession_ended(digest, user), "asession_ended")


async def adrain(node: str, *, resume: bool = False) -> int:
    """Have the node of that name (``NodeInfo.name``) close its sockets with 1012, in rounds
    (setting DRAINER), and refuse new ones; returns how many there were when it is done.

    It stays so until its process ends, or until this is called with `resume`. Raises
    LookupError when there is no such node, BroadcastError when it does not answer.
    """
    here = get_pubsub()
    nodes = await here.heartbeat.state.nodes()
    if node not in nodes:
        raise LookupError(f"there is no node {node!r}")
    patience = _drain_timeout()
    try:
        asked = {"resume": resume}
        address = nodes[node].get("address")
        answer = await ask_node(here, node, address, "drain", asked, patience)
    except NoAnswer as error:
        raise BroadcastError(f"the node {node!r} does not answer: {error}") from error
    return int(answer["sockets"])


def _drain_timeout() -> float:
    drainer = options().drainer or DRAINER
    return float(drainer["SHUTDOWN"] + 2 * options().shutdown_timeout + 5)


def drain(node: str, *, resume: bool = False) -> int:
    """``adrain`` for synchronous code."""
    call = adrain(node, resume=resume)
    return blocking.run(call, "drain", "await adrain(...)", timeout=_drain_timeout())


async def reply(ref: ReplyRef, status: str = "ok", payload: Any = None) -> None:
    """Answer the event that ``Channel.reply_ref()`` stands for, from any process.

    A reply to a channel that has ended is lost. Raises BroadcastError when the layer did not
    take it. Mirrors ``Phoenix.Channel.reply/2``.
    """
    payload = {} if payload is None else payload
    node = get_pubsub()
    if node.replies.send(ref, status, payload):
        return
    for other in node.others():
        other.loop.call_soon_threadsafe(other.replies.send, ref, status, payload)
    if node.is_alone:
        return blocking.warn_if_nobody_hears("reply")
    raw = json.encode_payload(payload)
    message = {
        "type": layer_message.REPLY,
        "v": layer_message.VERSION,
        "ref": dataclasses.asdict(ref),
        "status": status,
        "payload": raw if isinstance(raw, bytes) else bytes(raw).decode(),
    }
    try:
        await node.layer.send(ref.node, message)
    except Exception as error:
        raise BroadcastError(
            f"the channel layer did not take the reply: {in_words(error)}"
        ) from error


def _message(
    topic: str, event: str, payload: Any, sender: ReplyRef | str | None = None
) -> Broadcast:
    if not isinstance(topic, str) or not isinstance(event, str):
        raise TypeError(
            f"topic and event are strings, not {shown(topic, 100)} and {shown(event, 100)}"
        )
    declaring = [c for c in channels_of(topic) if event in c._pushes]
    sent = [channel_class.check_push(event, payload) for channel_class in declaring]
    raw = json.encode_payload(sent[0] if sent else payload)
    id = sender.channel_id if isinstance(sender, ReplyRef) else sender
    return Broadcast(topic, event, raw, None, time.time(), sender=id)


async def _abroadcast(message: Broadcast) -> None:
    blocking.warn_if_nobody_hears("abroadcast")
    node = get_pubsub()
    history = history_of(message.topic)
    published = await node.publish(message, history)
    if published is not None:
        await published
    await node.take_turns()


def _broadcast(message: Broadcast) -> None:
    _run(_abroadcast(message), "abroadcast")


def _run(coroutine: Coroutine[Any, Any, None], name: str) -> None:
    try:
        blocking.run(coroutine, name[1:], f"await {name}(...)")
    except TimeoutError as error:
        raise BroadcastError(f"the channel layer did not answer: {error}") from error
