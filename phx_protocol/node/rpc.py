"""NodeRpc: a node calls another one, over the channel layer, and has its answer.

What lets any process answer for a long-poll session that lives in another. A request is
acknowledged at once, so that a dead node is told from a slow answer; an answer may take as
long as a poll waits.

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
from typing import TYPE_CHECKING, Any

import msgspec
from channels.exceptions import ChannelFull

from ..concurrency.tasks import begin
from ..exceptions import PhxError
from ..logs import get_logger
from ..logs.printable import shown
from ..pubsub import message as layer_message
from ..pubsub.message import NODES
from .pacer import Pacer

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.pubsub")

#: seconds between two tries to send to a channel of the layer that is full, or a layer that fails
RETRY = 0.05
#: seconds for which that is tried when nobody waits for an answer
TELL_TIMEOUT = 2.0
#: seconds in which an answer saves the acknowledgement
ACK_AFTER = 0.005
#: seconds in which a node takes a request, and answers one that costs it little
CALL_TIMEOUT = 2.0
#: requests that are known when they come a second time
REMEMBERED = 1000

#: bytes of one message: what a long-poll session takes at once, and some
LARGEST = 8 * 1024 * 1024
#: bytes from which on a message is counted among what may be on its way: see ``pacer``
LARGE = 64 * 1024

Body = dict[str, Any]
Handler = Callable[[Body], Awaitable[Body]]


class NoAnswer(PhxError):
    """The other node is gone, or did not answer in time."""


class TooLarge(PhxError):
    """A message that a channel layer may not bear."""


class Call:
    """What is asked of another node and not answered yet."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.taken: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[Body | None] = loop.create_future()


class NodeRpc:
    """The requests of one node, to others and from them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._handlers: dict[str, Handler] = {}
        self._listeners: dict[str, Callable[[Body], None]] = {}
        self._calls: dict[str, Call] = {}
        self._running: dict[str, asyncio.Future[Body | None]] = {}
        self._taken: dict[str, None] = {}  # ids of requests, the newest last
        # who is told of an answer that comes after all
        self._late: dict[str, Callable[[Body], None]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self.pacer = Pacer(node, self)

    def on_call(self, name: str, handler: Handler) -> None:
        """Have `handler` answer what other nodes ask for by `name`. It is cancelled when they
        do not want to know any more."""
        self._handlers[name] = handler

    def on_cast(self, name: str, listener: Callable[[Body], None]) -> None:
        """Have `listener` told what other nodes note by `name`, for which there is no answer."""
        self._listeners[name] = listener

    async def call(
        self,
        channel: str,
        name: str,
        body: Body,
        *,
        patience: float,
        timeout: float,
        on_late_answer: Callable[[Body], None] | None = None,
    ) -> Body:
        """The answer of the node that reads `channel`. Raises NoAnswer when it has not taken
        the request after `patience` seconds, or not answered after `timeout`.

        `on_late_answer` is called with an answer that crossed the end of this call.
        """
        node, call = self._node, Call()
        id = f"{node.name}.{next(self._ids)}"
        self._calls[id] = call
        with node.kept_alive(call):
            try:
                async with asyncio.timeout(patience):
                    address = await node.address()
                    if address is None:
                        raise NoAnswer("the channel layer cannot be reached")
                    request = {"id": id, "from": address, "name": name, "body": body}
                    await self._send(channel, "ask", **request)
                    await call.taken
                async with asyncio.timeout(timeout):
                    answer = await call.answer
                if answer is None:
                    raise NoAnswer(f"{name!r} failed over there")
                return answer
            except TooLarge as error:
                raise NoAnswer(f"{name!r} cannot be asked: {error}") from error
            except (TimeoutError, asyncio.CancelledError) as error:
                self._give_up(id, timeout, on_late_answer)
                self._keep(self.tell(channel, "cancel", id=id))
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

    def cast_soon(self, channel: str, name: str, body: Body) -> None:
        """``tell`` of a note, from where nothing can wait."""
        self._keep(self.tell(channel, "note", name=name, body=body))

    def answer_mark(self, channel: str, id: str) -> None:
        """Tell who sent the mark `id` that it arrived here."""
        self._keep(self.tell(channel, "marked", id=id, node=self._node.name))

    def _keep(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = begin(run)
        self._telling.add(task)
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled():
            task.exception()  # who still waits has it; nobody else wants it

    async def tell(self, channel: str, do: str, **fields: Any) -> None:
        """Send what needs no answer; it is lost when the layer does not take it for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TELL_TIMEOUT):
                await self._send(channel, do, **fields)

    async def settled(self) -> None:
        """Wait until what is being told is told, TELL_TIMEOUT at the most."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=TELL_TIMEOUT)

    async def cast_all(self, name: str, body: Body) -> None:
        """Tell every other node with sockets. Raises what the layer raises."""
        note = {"do": "note", "name": name, "body": body, "node": self._node.name}
        await self._node.remote.cast(NODES, _message(**note))

    async def cast_topic(self, topic: str, name: str, body: Body) -> None:
        """Tell the other nodes with subscribers of `topic`; lost when the layer does not take it."""
        note = {"do": "note", "name": name, "body": body, "node": self._node.name}
        try:
            if _size(note) > LARGEST:
                raise TooLarge(f"the note {name!r} on {topic!r:.100}")
            await self._node.remote.cast(topic, _message(**note))
        except TooLarge as error:
            logger.error("too large for the channel layer: %s", error)
        except Exception as error:
            self._node.layer.report(error)

    async def call_local(self, name: str, body: Body) -> Body:
        """The answer of this node itself. Raises NoAnswer."""
        answer = await self._handle({"name": name, "body": body})
        if answer is None:
            raise NoAnswer(f"{name!r} failed here")
        return answer

    def cast_local(self, name: str, body: Body) -> None:
        """Tell this node itself."""
        self._listeners[name](body)

    async def _send(self, channel: str, do: str, **fields: Any) -> None:
        """Send until the layer takes it; who calls sets the limit. Raises TooLarge."""
        message = _message(do=do, **fields)
        size = _size(message)
        if size > LARGEST:
            raise TooLarge(f"{size} bytes are more than {LARGEST}")
        if size >= LARGE:
            await self.pacer.room_for(size)
        while True:
            try:
                # Never cancelled in the middle: redis-py cuts its connection then, and below
                # Python 3.12 its wait_for() swallows a cancellation, or a timeout, now and then.
                sending = self._keep(self._node.layer.send(channel, message))
                return await asyncio.shield(sending)
            except ChannelFull:
                pass
            except Exception as error:
                self._node.layer.report(error)
            await asyncio.sleep(RETRY)

    # --------------------------------------------------- what the listener hands on

    def take(self, message: Body) -> None:
        """One message of another node. Raises Unreadable."""
        if message.get("v") != layer_message.VERSION:
            raise layer_message.Unreadable(f"version {shown(message.get('v'), 100)}")
        do, id = message["do"], message.get("id", "")
        if do == "ask":
            # a layer that took it may fail to say so, and it is sent again
            if id not in self._taken:
                self._taken[id] = None
                if len(self._taken) > REMEMBERED:
                    del self._taken[next(iter(self._taken))]
                run = self._running[id] = begin(self._handle(message))
                run.add_done_callback(lambda run: self._running.pop(id, None))
                self._keep(self._answer(message, run))
        elif do == "note":
            if message.get("node") != self._node.name:  # it has told itself
                self.cast_local(message["name"], message["body"])
        elif do in ("mark", "marked"):
            self.pacer.take(message)
        elif do == "cancel":
            if id in self._running:
                self._running[id].cancel()
        elif id in self._late:
            if do == "answer":
                self._hand_over(self._late.pop(id), message["body"])
        elif id in self._calls:  # not one that has given up
            call = self._calls[id]
            if not call.taken.done():
                call.taken.set_result(None)
            if do == "answer" and not call.answer.done():
                call.answer.set_result(message["body"])

    async def _answer(self, request: Body, run: asyncio.Future[Body | None]) -> None:
        channel, id = request["from"], request["id"]
        await asyncio.wait({run}, timeout=ACK_AFTER)
        if not run.done():  # an answer tells as much as "taken" does
            await self.tell(channel, "taken", id=id)
        await asyncio.wait({run})
        # told even when it is cancelled by now: who asked may have to give it back
        if not run.cancelled():
            try:
                await self.tell(channel, "answer", id=id, body=run.result())
            except PhxError as error:
                name = request["name"]
                logger.error("the answer to another node's %r: %s", name, error)
                await self.tell(channel, "answer", id=id, body=None)

    async def _handle(self, request: Body) -> Body | None:
        """The answer, or None for a request that cannot be answered."""
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
    """What the node `name`, whose listener is at `address`, answers: another one, one of this
    process, or `node` itself. Raises NoAnswer."""
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
        address, what, body, patience=CALL_TIMEOUT, timeout=timeout
    )


def _size(message: Body) -> int:
    """Its bytes as a Redis layer sends it; 0 for what no layer takes, which it says itself."""
    try:
        return len(msgspec.msgpack.encode(message))
    except Exception:
        return 0


def _message(**fields: Any) -> Body:
    return {"type": layer_message.RELAY, "v": layer_message.VERSION, **fields}
