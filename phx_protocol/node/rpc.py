"""NodeRpc: a node calls another one over the channel layer, and gets its answer.

So any process can answer a request for a long-poll session of another process. A request is
acknowledged at once, to distinguish a dead node from a slow answer. An answer may take as long as
a poll waits.

::

    {"type": "phx.relay", "v": 1, "do": "ask", "id": str, "from": channel, "name": str, "body": dict}
    {"type": "phx.relay", "v": 1, "do": "taken" | "answer" | "cancel", "id": str, "body": dict}
    {"type": "phx.relay", "v": 1, "do": "note", "name": str, "body": dict, "node": name or None}
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec
from channels.exceptions import ChannelFull

from ..concurrency.tasks import begin
from ..exceptions import PhxError
from ..logs import get_logger
from ..logs.printable import shown
from ..pubsub import message as layer_message
from ..pubsub.groups import Key
from ..pubsub.message import NODES
from .pacer import Pacer

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.pubsub")

#: seconds between two tries to send, if the channel of the layer is full or the layer fails
RETRY = 0.05
#: seconds in which the layer must accept a message that needs no answer; else the message is lost
SEND_TIMEOUT = 2.0
#: seconds to wait for the answer before an acknowledgement is sent
ACK_AFTER = 0.005
#: seconds in which a node must acknowledge a request, and answer a simple one
CALL_TIMEOUT = 2.0
#: how many requests a node remembers, to recognize one that arrives a second time
REMEMBERED = 1000

#: most bytes of one message: a little more than a long-poll session accepts at once
LARGEST = 8 * 1024 * 1024
#: bytes; a message of this size or more must wait for the pacer: see ``pacer``
LARGE = 64 * 1024

#: what each kind of message has: its fields, and their types
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "ask": {"id": str, "from": str, "name": str, "body": dict},
    "taken": {"id": str},
    "answer": {"id": str, "body": (dict, NoneType)},
    "cancel": {"id": str},
    "note": {"name": str, "body": dict},
    "mark": {"id": str, "from": str, "node": str},
    "marked": {"id": str, "node": str},
}

Body = dict[str, Any]
Handler = Callable[[Body], Awaitable[Body]]


class NoAnswer(PhxError):
    """The other node is gone, or did not answer in time."""


class TooLarge(PhxError):
    """A message that is too large for a channel layer."""


class Call:
    """A call of another node that has no answer yet."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.acknowledged: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[Body | None] = loop.create_future()


class NodeRpc:
    """The calls and casts of one node, to other nodes and from them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._handlers: dict[str, Handler] = {}
        self._listeners: dict[str, Callable[[Body], None]] = {}
        self._calls: dict[str, Call] = {}
        self._running: dict[str, asyncio.Future[Body | None]] = {}
        self._received: dict[str, None] = {}  # ids of requests, the newest last
        # id -> callback for an answer that arrives after the caller gave up
        self._late: dict[str, Callable[[Body], None]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self.pacer = Pacer(node, self)

    def on_call(self, name: str, handler: Handler) -> None:
        """Answer calls of other nodes by `name` with `handler`. It is cancelled if the caller gives up."""
        self._handlers[name] = handler

    def on_cast(self, name: str, listener: Callable[[Body], None]) -> None:
        """Pass casts of other nodes by `name` to `listener`. They get no answer."""
        self._listeners[name] = listener

    async def call(
        self,
        channel: str,
        name: str,
        body: Body,
        *,
        ack_timeout: float,
        timeout: float,
        on_late_answer: Callable[[Body], None] | None = None,
    ) -> Body:
        """Call the node that reads `channel`, and return its answer.

        Raises NoAnswer if it has not acknowledged the request after `ack_timeout` seconds, or not
        answered after `timeout`. `on_late_answer` is called with an answer that arrives later.
        """
        node, call = self._node, Call()
        id = f"{node.name}.{next(self._ids)}"
        self._calls[id] = call
        with node.kept_alive(call):
            try:
                async with asyncio.timeout(ack_timeout):
                    address = await node.address()
                    if address is None:
                        raise NoAnswer("the channel layer cannot be reached")
                    request = {"id": id, "from": address, "name": name, "body": body}
                    await self._send(channel, "ask", **request)
                    await call.acknowledged
                async with asyncio.timeout(timeout):
                    answer = await call.answer
                if answer is None:
                    raise NoAnswer(f"{name!r} failed over there")
                return answer
            except TooLarge as error:
                raise NoAnswer(f"the call {name!r} is too large: {error}") from error
            except (TimeoutError, asyncio.CancelledError) as error:
                self._give_up(id, timeout, on_late_answer)
                self._keep(self._send_in_time(channel, "cancel", id=id))
                if isinstance(error, TimeoutError):
                    raise NoAnswer(f"no answer to {name!r} in time") from error
                raise
            finally:
                self._calls.pop(id, None)

    def _give_up(
        self, id: str, timeout: float, on_late_answer: Callable[[Body], None] | None
    ) -> None:
        answer = self._calls.pop(id).answer
        if on_late_answer is None:
            return
        if answer.done() and not answer.cancelled():
            self._hand_over(on_late_answer, answer.result())
        else:
            self._late[id] = on_late_answer
            self._node.loop.call_later(timeout, self._late.pop, id, None)

    @staticmethod
    def _hand_over(on_late_answer: Callable[[Body], None], answer: Body | None) -> None:
        if answer is not None:
            on_late_answer(answer)

    async def cast(self, channel: str, name: str, body: Body) -> None:
        """Cast to the node that reads `channel`. It is lost if the layer does not accept it in time."""
        await self._send_in_time(channel, "note", name=name, body=body)

    def cast_soon(self, channel: str, name: str, body: Body) -> None:
        """Cast to one node, without waiting until it is sent."""
        self._keep(self.cast(channel, name, body))

    def answer_mark(self, channel: str, id: str) -> None:
        """Answer the sender of the mark `id` that it arrived here."""
        self._keep(self._send_in_time(channel, "marked", id=id, node=self._node.name))

    def _keep(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = begin(run)
        self._sending.add(task)
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # no warning if nobody awaits the task

    async def _send_in_time(self, channel: str, do: str, **fields: Any) -> None:
        """Send a message that needs no answer. It is lost if the layer does not accept it in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._send(channel, do, **fields)

    async def settled(self) -> None:
        """Wait for pending sends, SEND_TIMEOUT at most."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=SEND_TIMEOUT)

    async def cast_all(self, name: str, body: Body) -> None:
        """Cast to every other node with sockets. Raises any error of the layer."""
        note = {"do": "note", "name": name, "body": body, "node": self._node.name}
        await self._node.link.cast(NODES, _message(**note))

    async def cast_topic(self, topic: Key, name: str, body: Body) -> None:
        """Cast to the other nodes with subscribers of `topic`. It is lost if the layer fails."""
        note = {"do": "note", "name": name, "body": body, "node": self._node.name}
        try:
            if _size(note) > LARGEST:
                raise TooLarge(f"the note {name!r} on {topic!r:.100}")
            await self._node.link.cast(topic, _message(**note))
        except TooLarge as error:
            logger.error("too large for the channel layer: %s", error)
        except Exception as error:
            self._node.link.report(error)

    async def call_local(self, name: str, body: Body) -> Body:
        """Return the answer of this node itself. Raises NoAnswer."""
        answer = await self._handle({"name": name, "body": body})
        if answer is None:
            raise NoAnswer(f"{name!r} failed here")
        return answer

    def cast_local(self, name: str, body: Body) -> None:
        """Cast to this node itself."""
        self._listeners[name](body)

    async def _send(self, channel: str, do: str, **fields: Any) -> None:
        """Send, and try again until the layer accepts it; the caller limits the time. Raises TooLarge."""
        message = _message(do=do, **fields)
        size = _size(message)
        if size > LARGEST:
            raise TooLarge(f"{size} bytes are more than {LARGEST}")
        if size >= LARGE:
            await self.pacer.room_for(size)
        while True:
            try:
                # Never cancelled in the middle: redis-py would close its connection, and below
                # Python 3.12 its wait_for() sometimes swallows a cancellation or a timeout.
                sending = self._keep(self._node.link.send(channel, message))
                return await asyncio.shield(sending)
            except ChannelFull:
                pass
            except Exception as error:
                self._node.link.report(error)
            await asyncio.sleep(RETRY)

    # --------------------------------------------------- receiving

    def take(self, message: Body) -> None:
        """Handle one message of another node. Raises Unreadable."""
        if message.get("v") != layer_message.VERSION:
            raise layer_message.Unreadable(f"version {shown(message.get('v'), 100)}")
        _check(message)
        do, id = message["do"], message.get("id", "")
        if do == "ask":
            # the layer may raise an error although it accepted a request, which is then sent again
            if id not in self._received:
                self._received[id] = None
                if len(self._received) > REMEMBERED:
                    del self._received[next(iter(self._received))]
                run = self._running[id] = begin(self._handle(message))
                run.add_done_callback(lambda run: self._running.pop(id, None))
                self._keep(self._answer(message, run))
        elif do == "note":
            # the sender has handled it already
            if message.get("node") != self._node.name:
                if message["name"] not in self._listeners:
                    raise layer_message.Unreadable(
                        f"note {shown(message['name'], 100)}"
                    )
                self.cast_local(message["name"], message["body"])
        elif do in ("mark", "marked"):
            self.pacer.take(message)
        elif do == "cancel":
            if id in self._running:
                self._running[id].cancel()
        elif id in self._late:
            if do == "answer":
                self._hand_over(self._late.pop(id), message["body"])
        elif id in self._calls:  # ignore it if the caller has given up
            call = self._calls[id]
            if not call.acknowledged.done():
                call.acknowledged.set_result(None)
            if do == "answer" and not call.answer.done():
                call.answer.set_result(message["body"])

    async def _answer(self, request: Body, run: asyncio.Future[Body | None]) -> None:
        channel, id = request["from"], request["id"]
        await asyncio.wait({run}, timeout=ACK_AFTER)
        if not run.done():  # else the answer is the acknowledgement
            await self._send_in_time(channel, "taken", id=id)
        await asyncio.wait({run})
        # sent even if the caller gave up meanwhile: it may have to return what the answer contains
        if not run.cancelled():
            try:
                await self._send_in_time(channel, "answer", id=id, body=run.result())
            except PhxError as error:
                name = request["name"]
                logger.error("the answer to another node's %r: %s", name, error)
                await self._send_in_time(channel, "answer", id=id, body=None)

    async def _handle(self, request: Body) -> Body | None:
        """Return the answer, or None for a request that cannot be answered."""
        try:
            return await self._handlers[request["name"]](request["body"])
        except Exception:
            logger.exception("another node's %r failed here", request["name"])
            return None


async def call_node(
    node: Node,
    name: str,
    address: str | None,
    what: str,
    body: Body,
    timeout: float = CALL_TIMEOUT,
) -> Body:
    """Call the node `name`, whose listener is at `address`, and return its answer.

    It may be `node` itself, another node of this process, or one of another process. Raises NoAnswer.
    """
    here = node.local().get(name)
    if here is node:
        return await node.rpc.call_local(what, body)
    if here is not None:
        call = here.rpc.call_local(what, body)
        future = asyncio.run_coroutine_threadsafe(call, here.loop)
        return await asyncio.wrap_future(future)
    if address is None:
        raise NoAnswer("it is not on the channel layer")
    return await node.rpc.call(
        address, what, body, ack_timeout=CALL_TIMEOUT, timeout=timeout
    )


def _check(message: Body) -> None:
    """Raise Unreadable if `message` is not one of FIELDS."""
    do = message.get("do")
    fields = FIELDS.get(do) if isinstance(do, str) else None
    if fields is None:
        raise layer_message.Unreadable(f"do {shown(do, 100)}")
    for name, types in fields.items():
        if not isinstance(message.get(name), types):
            raise layer_message.Unreadable(
                f"{do} with {name} {shown(message.get(name), 100)}"
            )


def _size(message: Body) -> int:
    """Return its bytes as a Redis layer sends it; 0 if it cannot be encoded: the layer raises then."""
    try:
        return len(msgspec.msgpack.encode(message))
    except Exception:
        return 0


def _message(**fields: Any) -> Body:
    return {"type": layer_message.RELAY, "v": layer_message.VERSION, **fields}
