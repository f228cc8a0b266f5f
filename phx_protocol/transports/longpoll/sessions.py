"""Sessions: those of one node, and those that live in other processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ...logs import get_logger
from ...node.node import Node
from ...node.part import Call, Cast, Part
from ...node.rpc import NoAnswer
from ...socket.opening import Opening
from ...socket.refusals import refusals
from ...wire.reasons import CloseCode, Reason, Refusal
from .session import (
    GONE,
    LONGEST_RELAYED_WAIT,
    RELAY_BYTES,
    Answer,
    Batch,
    LongPollSession,
)

logger = get_logger("phx_protocol.transport")

#: the most sessions of one process that were never polled; with one more, the oldest of them
#: ends. phoenix.js polls a new session at once
UNPOLLED = 500
#: the most bytes of their query strings and headers, which take up to 25 times as much when they are read
UNPOLLED_BYTES = 2 * 1024 * 1024


class Sessions(Part):
    """The long-poll sessions of one node, by id."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._sessions: dict[str, LongPollSession] = {}
        self._unpolled: dict[str, tuple[LongPollSession, int]] = {}
        self._unpolled_bytes = 0
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def calls(self) -> Mapping[str, Call]:
        return {"longpoll.poll": self._poll, "longpoll.post": self._post}

    @property
    def casts(self) -> Mapping[str, Cast]:
        return {"longpoll.confirm": self._confirm}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, id: str) -> LongPollSession | None:
        return self._sessions.get(id)

    async def open(self, opening: Opening) -> LongPollSession:
        session, size = LongPollSession(opening, self), _size_of(opening)
        self._sessions[session.id] = session
        self._unpolled[session.id] = session, size
        self._unpolled_bytes += size
        while len(self._unpolled) > UNPOLLED or self._unpolled_bytes > UNPOLLED_BYTES:
            oldest, _ = next(iter(self._unpolled.values()))
            oldest.close(CloseCode.OVERLOADED, Reason.CLOSED)
        try:
            await session.open()
        except BaseException:
            session.close(CloseCode.CRASH, Reason.CLOSED)
            raise
        return session

    def polled(self, session: LongPollSession) -> None:
        _, size = self._unpolled.pop(session.id, (session, 0))
        self._unpolled_bytes -= size

    def ended(self, session: LongPollSession, terminate: Any) -> None:
        self._sessions.pop(session.id, None)
        self.polled(session)
        task = self.node.loop.create_task(terminate)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # ------------------------------------------------ the calls of other nodes

    async def _poll(self, body: dict[str, Any]) -> dict[str, Any]:
        session = self.get(body["session"])
        batch = GONE if session is None else await session.poll(RELAY_BYTES)
        return {**batch._asdict(), "messages": batch.messages.decode()}

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        session = self.get(body["session"])
        if session is None:
            return {"status": 410}
        wait = LONGEST_RELAYED_WAIT
        return await session.post(body["body"], body["is_ndjson"], wait)

    def _confirm(self, body: dict[str, Any]) -> None:
        session = self.get(body["session"])
        if session is not None:
            session.confirm_now(body["number"], body["written"])


def _size_of(opening: Opening) -> int:
    """Return the bytes of the query string and of all headers of its request."""
    scope = opening.socket.connect_info.scope
    headers = sum(len(name) + len(value) for name, value in scope.get("headers", ()))
    return len(scope.get("query_string", b"")) + headers


class RemoteSession:
    """A session in another process, at the channel `channel` of the layer.

    It has the methods of LongPollSession that a request calls.
    """

    def __init__(
        self, id: str, channel: str, node: Node, longpoll: Mapping[str, Any]
    ) -> None:
        self.id = id
        self._channel = channel
        self._rpc = node.rpc
        self._ack_timeout: float = longpoll["SESSION_TIMEOUT"]
        self._window: float = longpoll["WINDOW"]

    async def poll(self) -> Batch:
        try:
            answer = await self._call(
                "poll", self._window + self._ack_timeout, self._return_batch
            )
        except NoAnswer:
            return GONE
        return Batch(answer["status"], answer["number"], answer["messages"].encode())

    async def post(self, body: str | None, is_ndjson: bool) -> Answer:
        size = 0 if body is None else len(body.encode())
        if size > RELAY_BYTES:
            logger.warning("a POST is answered with 413: %d bytes to relay", size)
            refusals.count(Refusal.REQUEST_TOO_LARGE)
            return {"status": 413, "reason": Refusal.REQUEST_TOO_LARGE}
        try:
            async with asyncio.timeout(self._ack_timeout):
                return await self._call(
                    "post", self._ack_timeout, body=body, is_ndjson=is_ndjson
                )
        except (NoAnswer, TimeoutError):
            return {"status": 410}

    def settling(
        self, number: int, settled: Callable[[], None]
    ) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # only the session's own process knows that

    async def confirm(self, number: int, written: bool) -> None:
        body = {"session": self.id, "number": number, "written": written}
        await self._rpc.cast(self._channel, "longpoll.confirm", body)

    def _return_batch(self, answer: dict[str, Any]) -> None:
        """Return the batch of an answer that came too late for its poll.

        Else the next poll would wait until it is known whether that batch was written.
        """
        if answer["number"]:
            self._rpc.cast_soon(
                self._channel,
                "longpoll.confirm",
                {"session": self.id, "number": answer["number"], "written": False},
            )

    async def _call(
        self,
        what: str,
        timeout: float,
        on_late_answer: Callable[[dict[str, Any]], None] | None = None,
        **body: Any,
    ) -> dict[str, Any]:
        return await self._rpc.call(
            self._channel,
            f"longpoll.{what}",
            {"session": self.id, **body},
            ack_timeout=self._ack_timeout,
            timeout=timeout,
            on_late_answer=on_late_answer,
        )
