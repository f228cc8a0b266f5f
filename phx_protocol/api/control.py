"""disconnect() and other commands to the sockets of all processes."""

from __future__ import annotations

from typing import Any

from ..conf import DRAINER, options
from ..exceptions import BroadcastError
from ..node import blocking
from ..node.blocking import sync
from ..node.neighbours import known_nodes
from ..node.node import get_node
from ..node.rpc import NoAnswer, call_node
from .broadcasts import abroadcast


async def adisconnect(socket_id: str) -> None:
    """Close every socket whose ``id()`` is `socket_id`, in every process, with 1001.

    When this returns the sockets are closed, and no more of their messages are handled. A socket
    whose ``connect`` still runs is refused. Raises BroadcastError if the layer did not accept
    the command, or, after two seconds, with the names of the nodes that did not answer. Mirrors
    ``Endpoint.broadcast(id, "disconnect", %{})``: that broadcast closes sockets here as well.
    """
    await abroadcast(socket_id, "disconnect", {})
    await _command("disconnect", {"id": socket_id})


disconnect = sync(adisconnect, raises=BroadcastError)


async def adisconnect_socket(id: str) -> None:
    """Close one connection (``SocketInfo.id``), in whatever process it is, with 1001.

    Its client connects again. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("disconnect_socket", {"id": id})


disconnect_socket = sync(adisconnect_socket, raises=BroadcastError)


async def aclose_topic(topic: str) -> None:
    """End every channel that has joined `topic`, in every process, as if it had stopped itself.

    Clients get ``phx_close``, after which phoenix.js does not join again by itself. When this
    returns the channels have ended, even if their callbacks were running: nothing more is
    delivered to them, and their mailboxes are dropped. A join that still runs is refused with
    ``topic closed``. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("close_topic", {"topic": topic})


close_topic = sync(aclose_topic, raises=BroadcastError)


async def adisconnect_user(user: Any) -> None:
    """Close every socket of `user` (a user, or its primary key), in every process, with 1001.

    Clients connect again. The package calls this when a user logs out. Raises BroadcastError as
    ``adisconnect`` does.
    """
    await _command("disconnect_user", _of(user))


disconnect_user = sync(adisconnect_user, raises=BroadcastError)


def _of(user: Any) -> dict[str, Any]:
    return {"user": str(getattr(user, "pk", user))}


async def areauthorize(*, user: Any = None, topic: str | None = None) -> None:
    """Let channels check again whether their client may stay: those of `user`, of `topic`, or all.

    This reaches every process. See ``Channel.reauthorize``. When it returns all channels have
    checked, and those whose client may not stay have ended. A join that still runs is checked
    before it is answered. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("reauthorize", _chosen(user, topic))


reauthorize = sync(areauthorize, raises=BroadcastError)


def _chosen(user: Any, topic: str | None) -> dict[str, Any]:
    return {"user": None if user is None else _of(user)["user"], "topic": topic}


async def _command(name: str, body: dict[str, Any]) -> None:
    """Send a command to the sockets of all nodes, and of all event loops of this process."""
    blocking.warn_if_nobody_hears(f"a{name}")
    await get_node().commands.send(name, body)


async def apassword_changed(user: str, digests: list[str]) -> None:
    """Close the sockets of the user with the primary key `user` that an older password opened.

    `digests` are those of the current password.
    """
    body = {"user": user, "digests": digests}
    await get_node().commands.send("password_changed", body)


password_changed = sync(apassword_changed, raises=BroadcastError)


async def asession_ended(digest: str, user: str) -> None:
    """Close the sockets of the session whose key has the digest `digest`, except those of `user`."""
    body = {"session": digest, "user": user}
    await get_node().commands.send("session_ended", body)


session_ended = sync(asession_ended, raises=BroadcastError)


async def adrain(node: str, *, resume: bool = False) -> int:
    """Drain the node with the name `node` (``NodeInfo.name``); return how many sockets it had.

    The node closes its sockets with 1012, in rounds (setting DRAINER), and refuses new ones; this
    returns when it has finished. It refuses them until its process ends, or until this is called
    with `resume`. Raises LookupError if there is no such node, BroadcastError if it does not
    answer.
    """
    here = get_node()
    nodes = await known_nodes(here)
    if node not in nodes:
        raise LookupError(f"there is no node {node!r}")
    timeout = _drain_timeout()
    try:
        body = {"resume": resume}
        address = nodes[node].get("address")
        answer = await call_node(here, node, address, "drain", body, timeout)
    except NoAnswer as error:
        raise BroadcastError(f"the node {node!r} does not answer: {error}") from error
    return int(answer["sockets"])


def _drain_timeout() -> float:
    drainer = options().drainer or DRAINER
    return float(drainer["SHUTDOWN"] + 2 * options().shutdown_timeout + 5)


drain = sync(adrain, timeout=_drain_timeout)
