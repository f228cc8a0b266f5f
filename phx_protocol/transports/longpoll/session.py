"""LongPollSession: a Socket between the requests of a client that polls.

It lives in the process where it was opened. Frames wait in it until a poll has taken them
*and* its answer was written: a poll carries a numbered batch, and the session forgets the
frames only when the batch is confirmed (``Phoenix.Transports.LongPoll.Server``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...conf import options
from ...exceptions import DecodeError
from ...logs import get_logger
from ...signals import messages_dropped
from ...socket.loop_budgets import LARGE
from ...socket.opening import Opening
from ...socket.refusals import refusals
from ...wire.messages import Frame
from ...wire.reasons import CloseCode, Reason, Refusal
from ..connection_timers import ConnectionTimers
from ..inbound import CROWD, FRAMES_PER_TURN, in_turn, take
from ..outbound_limit import OutboundLimit
from .ndjson import BadLine, split_lines

if TYPE_CHECKING:
    from .sessions import Sessions

logger = get_logger("phx_protocol.transport")

_as_json_string = msgspec.json.Encoder().encode


class Batch(NamedTuple):
    """The answer to a poll.

    `status` is 200, 204 if nothing came within the window, or 410 if the session has ended.
    `messages` are JSON strings with a comma between them.
    """

    status: int
    number: int = 0
    messages: bytes = b""


GONE = Batch(410)
NOTHING = Batch(204)

#: bytes of one message that a channel layer carries safely: Redis disconnects a subscriber for
#: which 32 MiB wait
RELAY_BYTES = 4 * 1024 * 1024
#: bytes of the messages in one answer, unless one message alone is larger: while it is written,
#: its messages are in memory twice
BATCH_BYTES = 4 * 1024 * 1024

#: the most seconds that a POST waits for the turn of its large frames, and one that another process
#: relays: that process would give up
LONGEST_WAIT, LONGEST_RELAYED_WAIT = 5.0, 1.0

Answer = dict[str, Any]

#: the answer to a POST with a frame that is refused, by close code
REFUSED: dict[CloseCode, Answer] = {
    CloseCode.TOO_LARGE: {"status": 413, "reason": Refusal.REQUEST_TOO_LARGE},
    CloseCode.OVERLOADED: {"status": 429, "reason": Refusal.TOO_MANY_FRAMES_WAIT},
}


class LongPollSession:
    """The transport of one Socket. It outlives the requests that carry its frames."""

    name = "longpoll"

    def __init__(self, opening: Opening, sessions: Sessions) -> None:
        self.id = secrets.token_urlsafe(16)
        self.options = options(type(opening.socket))
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._window: float = self.options.longpoll["WINDOW"]
        self._is_closed = False
        self._frames: deque[bytes] = deque()
        self._frames_bytes = 0
        self._outbound = OutboundLimit(
            self.options.outbound, self.pending_bytes, self._overflowed
        )
        # the polls that wait, the newest last: it gets the next batch, the others end empty
        self._polls: list[asyncio.Event] = []
        self._numbers = 0
        self._in_flight: tuple[int, int, asyncio.Future[None]] | None = None
        self._post_lock = asyncio.Lock()  # one POST is handled after the other
        # the session ends if no poll comes for one and a half windows; POSTs do not count
        self._timers = ConnectionTimers(
            1.5 * self._window,
            self.options.max_connection_age,
            self.close,
        )

        self.connection = opening.open(self)

    async def open(self) -> None:
        self._sessions.node.keep_alive(self)
        await self.connection.subscribe_to_id()

    # ------------------------------------------------------------- the way in

    async def post(
        self, body: str | None, is_ndjson: bool, longest_wait: float = LONGEST_WAIT
    ) -> Answer:
        """Handle the body of one POST (None if it is not UTF-8) and return the answer.

        Each large frame in it may wait `longest_wait` seconds for its turn.
        """
        try:
            frames = split_lines(body) if is_ndjson and body is not None else [body]
        except BadLine as error:
            logger.warning("a POST is answered with 500: %.300s", error)
            refusals.count(Refusal.BAD_LINE)
            return {"status": 500, "reason": Refusal.BAD_LINE}
        async with self._post_lock:
            for turn, frame in enumerate(frames, 1):
                if self._is_closed:
                    return {"status": 410}
                if self.connection.backlog.frames or turn % FRAMES_PER_TURN == 0:
                    # let the frames before this one and the other sockets run first
                    await asyncio.sleep(0)
                if owed := self.connection.backlog.owed():
                    await asyncio.sleep(min(owed, longest_wait))
                if answer := await self._take_in_turn(frame, longest_wait):
                    return answer
        return {"status": 200}

    async def _take_in_turn(self, frame: Frame | None, wait: float) -> Answer | None:
        """Handle one frame; a large one may have to wait for those of other clients."""
        if frame is None or len(frame) < LARGE:
            return self._take(frame)
        try:
            async with (
                asyncio.timeout(wait),
                in_turn(self.connection, frame) as code,
            ):
                return self._take(frame) if code is None else self._refuse(code)
        except TimeoutError:
            logger.warning("ending a session: %s", CROWD)
            return self._refuse(CloseCode.OVERLOADED)

    def _refuse(self, code: CloseCode) -> Answer:
        self.close(code, Reason.CLOSED)
        return REFUSED[code]

    def _take(self, frame: Frame | None) -> Answer | None:
        """Handle one frame; return the answer to the POST if the frame ends the session."""
        try:
            if frame is None:
                raise DecodeError("text that is not UTF-8")
            code = take(self.connection, frame)
            if code is None:
                return None
            return self._refuse(code)
        except DecodeError as error:
            logger.warning("ending a session: %.300s", error)
            self.close(CloseCode.CRASH, Reason.CRASH, error)
            return {
                "status": 408
            }  # as Phoenix, which answers so only after ten seconds
        except Exception as error:
            logger.exception("ending a session")
            self.close(CloseCode.CRASH, Reason.CRASH, error)
            return {"status": 500}

    # ------------------------------------------------------------ the way out

    @staticmethod
    def prepare(frame: Frame) -> bytes:
        """Return a text frame as a JSON string, and b"" for a binary one: JSON cannot carry it."""
        return _as_json_string(frame) if isinstance(frame, str) else b""

    def write(self, prepared: bytes) -> None:
        if self._is_closed:
            return
        if not prepared:
            return self._drop("binary messages")
        if len(prepared) > RELAY_BYTES and not self._sessions.node.sees_one_process:
            return self._drop("messages so large")
        self._frames.append(prepared)
        self._frames_bytes += len(prepared)
        self._wake()
        if self._frames_bytes > self._outbound.limit:
            self._outbound.check()

    def _drop(self, what: str) -> None:
        _cannot_be_sent(type(self.connection.socket).__name__, what)
        messages_dropped.emit(None, count=1, where="longpoll")

    def _wake(self) -> None:
        if self._polls:
            self._polls[-1].set()

    async def poll(self, max_bytes: float = BATCH_BYTES) -> Batch:
        """Return a batch of the frames that wait, or of the first that comes within the window.

        The frames stay here until ``confirm``. A batch is larger than `max_bytes` only if it is
        a single frame.
        """
        if self._is_closed:
            return GONE
        self._sessions.polled(self)
        self._timers.seen_at = inf
        poll = asyncio.Event()
        self._polls.append(poll)
        try:
            async with asyncio.timeout(self._window):
                while not self._is_closed:
                    await self._confirmation()
                    if self._frames and self._polls[-1] is poll and not self._in_flight:
                        return self._batch(max_bytes)
                    await poll.wait()
                    poll.clear()
            return GONE
        except TimeoutError:
            return NOTHING
        finally:
            self._polls.remove(poll)
            if not self._polls:
                self._timers.seen_at = self._loop.time()
            if self._frames:
                self._wake()  # an older poll, if one still waits

    def _batch(self, max_bytes: float) -> Batch:
        self._numbers += 1
        size = count = 0
        for frame in self._frames:
            if count and size + len(frame) > max_bytes:
                break
            size, count = size + len(frame), count + 1
        self._in_flight = (self._numbers, count, self._loop.create_future())
        return Batch(200, self._numbers, b",".join(islice(self._frames, count)))

    async def _confirmation(self) -> None:
        """Wait until it is known whether the batch in flight was written.

        After SESSION_TIMEOUT it counts as not written: a client that polls again has not got it.
        """
        if self._in_flight is None:
            return
        number, _, settled = self._in_flight
        # a timer of the batch, not a timeout of this poll: the poll may end before
        timeout = self.options.longpoll["SESSION_TIMEOUT"]
        self._loop.call_later(timeout, self.confirm_now, number, False)
        await asyncio.wait({settled})

    @contextlib.contextmanager
    def settling(self, number: int, settled: Callable[[], None]) -> Iterator[None]:
        """Call `settled`, within the block, if the batch `number` need not be written any more.

        That is when the session takes it back to send it again, or when the session ends.
        """
        if self._in_flight is None or self._in_flight[0] != number:
            # the session took it back before it was written
            if number:
                settled()
            yield
            return
        future, is_over = self._in_flight[2], False

        def call(future: asyncio.Future[None]) -> None:
            if not is_over:
                settled()

        future.add_done_callback(call)
        try:
            yield
        finally:
            is_over = True
            future.remove_done_callback(call)

    async def confirm(self, number: int, written: bool) -> None:
        """Do what `confirm_now` does; a RemoteSession sends it to the session's node."""
        self.confirm_now(number, written)

    def confirm_now(self, number: int, written: bool) -> None:
        """Forget the frames of the batch `number` if it was `written`, else keep them to send again."""
        if self._in_flight is None or self._in_flight[0] != number:
            return
        _, count, settled = self._in_flight
        self._in_flight = None
        if written:
            for _ in range(count):
                self._frames_bytes -= len(self._frames.popleft())
        settled.set_result(None)
        if self._frames:
            self._wake()

    # ----------------------------------------------------------------- the end

    def last_seen(self) -> float:
        return self._timers.last_seen()

    def pending_bytes(self) -> int:
        return self._frames_bytes

    def _overflowed(self) -> None:
        logger.warning(
            "ending a session: the client does not take what it is sent, %d bytes wait",
            self._frames_bytes,
        )
        self.close(CloseCode.OVERLOADED, Reason.CLOSED)

    def close(
        self, code: int, reason: Reason, exception: BaseException | None = None
    ) -> None:
        """End the session: drop the frames that wait, and answer the polls with 410.

        The code is a close code of WebSocket.
        """
        if self._is_closed:
            return
        self._is_closed = True
        refusals.count(code)
        self._timers.stop()
        self._outbound.stop()
        if self._in_flight is not None:
            self._in_flight[2].set_result(None)
            self._in_flight = None
        for poll in self._polls:
            poll.set()
        self._sessions.node.let_go(self)
        if self._frames:
            dropped = len(self._frames)
            messages_dropped.emit(None, count=dropped, where="outbound")
        self._frames.clear()
        terminate = self.connection.terminate(reason, exception, code)
        self._sessions.ended(self, terminate)


@functools.cache
def _cannot_be_sent(socket: str, what: str) -> None:
    # cached, so that it logs once: the message is dropped, and the session goes on
    logger.error("%s: over long-poll %s cannot be sent, they are dropped", socket, what)
