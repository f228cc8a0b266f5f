"""disconnect() and its kin: what is ordered of the sockets of all processes."""

from __future__ import annotations

from typing import Any

from ..conf import DRAINER, options
from ..exceptions import BroadcastError
from ..node import blocking
from ..node.blocking import sync
from ..node.node import get_node
from ..node.rpc import NoAnswer, call_node
from .broadcasts import abroadcast


async def adisconnect(socket_id: str) -> None:
    """Close every socket whose ``id()`` is `socket_id`, on every process, with 1001.

    They are closed when this returns, and nothing more of what they sent is handled; one whose
    ``connect`` still runs is not let in. Raises BroadcastError when the layer did not take it,
    and after two seconds with the names of the nodes that did not answer. Mirrors
    ``Endpoint.broadcast(id, "disconnect", %{})``, which closes sockets here as well.
    """
    await abroadcast(socket_id, "disconnect", {})
    await _command("disconnect", {"id": socket_id})


disconnect = sync(adisconnect, raises=BroadcastError)


async def adisconnect_socket(id: str) -> None:
    """Close one connection (``SocketInfo.id``), wherever it is, with 1001; its client connects
    again. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("disconnect_socket", {"id": id})


disconnect_socket = sync(adisconnect_socket, raises=BroadcastError)


async def aclose_topic(topic: str) -> None:
    """End every channel that has joined `topic`, on every process, as if it had stopped itself:
    with ``phx_close``, on which phoenix.js does not join again by itself.

    They have ended when this returns, whatever they were busy with: nothing more is delivered,
    and what waited is dropped. A join that is under way is refused with ``topic closed``. Raises
    BroadcastError as ``adisconnect`` does.
    """
    await _command("close_topic", {"topic": topic})


close_topic = sync(aclose_topic, raises=BroadcastError)


async def adisconnect_user(user: Any) -> None:
    """Close every socket of `user` (a user, or its primary key), on every process, with 1001;
    clients connect again.

    Called when a user logs out. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("disconnect_user", _of(user))


disconnect_user = sync(adisconnect_user, raises=BroadcastError)


def _of(user: Any) -> dict[str, Any]:
    return {"user": str(getattr(user, "pk", user))}


async def areauthorize(*, user: Any = None, topic: str | None = None) -> None:
    """Have channels ask again whether their client may be there: those of `user`, those of
    `topic`, or all, on every process. See ``Channel.reauthorize``.

    When this returns all have asked, and channels whose client may not be there have ended; a join
    that is under way asks before it is answered. Raises BroadcastError as ``adisconnect`` does.
    """
    await _command("reauthorize", _chosen(user, topic))


reauthorize = sync(areauthorize, raises=BroadcastError)


def _chosen(user: Any, topic: str | None) -> dict[str, Any]:
    return {"user": None if user is None else _of(user)["user"], "topic": topic}


async def _command(name: str, body: dict[str, Any]) -> None:
    """To the sockets of all nodes, and of all loops of this process."""
    blocking.warn_if_nobody_hears(f"a{name}")
    await get_node().commands.send(name, body)


async def apassword_changed(user: str, digests: list[str]) -> None:
    """Close the sockets of the user with that primary key which another password let in."""
    body = {"user": user, "digests": digests}
    await get_node().commands.send("password_changed", body)


password_changed = sync(apassword_changed, raises=BroadcastError)


async def asession_ended(digest: str, user: str) -> None:
    """Close the sockets that the session whose key has that digest let in, but those of `user`."""
    body = {"session": digest, "user": user}
    await get_node().commands.send("session_ended", body)


session_ended = sync(asession_ended, raises=BroadcastError)


async def adrain(node: str, *, resume: bool = False) -> int:
    """Have the node of that name (``NodeInfo.name``) close its sockets with 1012, in rounds
    (setting DRAINER), and refuse new ones; returns how many there were when it is done.

    It stays so until its process ends, or until this is called with `resume`. Raises
    LookupError when there is no such node, BroadcastError when it does not answer.
    """
    here = get_node()
    nodes = await here.heartbeat.state.nodes()
    if node not in nodes:
        raise LookupError(f"there is no node {node!r}")
    patience = _drain_timeout()
    try:
        asked = {"resume": resume}
        address = nodes[node].get("address")
        answer = await call_node(here, node, address, "drain", asked, patience)
    except NoAnswer as error:
        raise BroadcastError(f"the node {node!r} does not answer: {error}") from error
    return int(answer["sockets"])


def _drain_timeout() -> float:
    drainer = options().drainer or DRAINER
    return float(drainer["SHUTDOWN"] + 2 * options().shutdown_timeout + 5)


drain = sync(adrain, timeout=_drain_timeout)
