"""Mailbox: the one queue of a topic, and the task that handles its mail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from ..concurrency.tasks import CRASHES, is_cancelled, must_end
from ..exceptions import DecodeError
from ..logs import get_logger
from ..wire.messages import JOIN, LEAVE

if TYPE_CHECKING:
    from .budget import Budget
    from .connection import Connection

logger = get_logger("phx_protocol.channel")


class Kind(NamedTuple):
    """A kind of mail: the method that handles it, and whether it is dropped when its channel ends."""

    handler: str
    #: True if it is for the joined channel, and is dropped when that is cut off
    goes_with_channel: bool = False
    #: True if it ends the channel: then it is handled even if the mail before it was cancelled
    is_end: bool = False


#: a frame of the client
FRAME = Kind("_handle_message", goes_with_channel=True)
#: a broadcast that the channel intercepts
BROADCAST = Kind("_handle_out", goes_with_channel=True)
#: a message of the application, or a broadcast of another topic
INFO = Kind("_handle_info", goes_with_channel=True)
#: the code of the channel has called ``stop``
STOP = Kind("stop_if_wanted")
#: broadcasts may be missing: the client must join again
INTERRUPT = Kind("_handle_interrupt")
#: the connection is gone
CLOSE = Kind("_handle_close", is_end=True)
#: a channel has ended, but its ``terminate`` was not called yet
PARTED = Kind("_handle_parted", is_end=True)


class Delivery(NamedTuple):
    """A message for a channel (Membership for INFO), and who pays for a large one; None for the loop."""

    receiver: Any
    message: Any
    payer: Budget | None = None


#: the kind of a mail, the mail itself, and the bytes that it counts for its client
Mail = tuple[Kind, Any, int]


class Mailbox:
    """A queue of mail, which is handled in order, one at a time, in a task that exists only while there
    is mail.

    A subclass has the methods that the kinds of mail name, and the three hooks at the end.
    """

    __slots__ = ("connection", "topic", "_mail", "task", "_cancelled", "size", "payer")

    def __init__(self, connection: Connection, topic: str) -> None:
        self.connection = connection
        self.topic = topic
        self._mail: deque[Mail] | None = None  # an empty one is 0.7 KiB
        # the task that handles the mail; None if there is none
        self.task: asyncio.Task[None] | None = None
        self._cancelled: asyncio.Task[None] | None = None
        self.size = 0  # bytes of the mail being handled
        # who pays for the time that it takes, if it is large; None for the loop
        self.payer: Budget | None = None

    def _put(self, kind: Kind, what: Any, size: int = 0) -> None:
        """Put mail after the other mail."""
        if self._mail is None:
            self._mail = deque()
        self._mail.append((kind, what, size))
        if self.task is None:
            self.task = self.connection.create_task(self._run())

    def put_first(self, kind: Kind, what: Any) -> None:
        """Put mail before all other mail."""
        self._mail = self._mail or deque()
        self._mail.appendleft((kind, what, 0))
        if self.task is None:
            self.task = self.connection.create_task(self._run())

    async def _run(self) -> None:
        task = self.task
        try:
            if self._cancelled is not None:
                await asyncio.wait({self._cancelled}, timeout=self.shutdown_timeout)
                self._cancelled = None
            while self._mail and self.task is task:
                kind, what, size = self._mail.popleft()
                self.size = size
                try:
                    await getattr(self, kind.handler)(what)
                except DecodeError as error:
                    self.connection.undecodable(error)
                except CRASHES as error:  # go on with the next mail
                    if self.task is not task or must_end(error):
                        raise
                    await self._on_error(error, what)
                finally:
                    self._release(kind, size)
                    self.size, self.payer = 0, None
        except asyncio.CancelledError:
            # Nobody needs the result of a cancelled task. If it kept the exception, there would be a
            # cycle: task, exception, frames, task. That keeps payloads until a garbage collection.
            if not is_cancelled():
                raise
        finally:
            if self.task is task:
                self.task = None
                self._mail = self._mail or None
                self._on_empty()

    def _release(self, kind: Kind, size: int) -> None:
        """Give back the bytes that counted for the client."""
        if kind is FRAME:
            self.connection.backlog.frame_bytes -= size
        else:
            self.connection.backlog.held_bytes -= size

    def _cancel_running(self) -> None:
        """Cancel the running callback and drop waiting events: the client joins the topic again.

        Phoenix kills the channel with an exit signal, even in the middle of an event.
        """
        self.drop_mail()
        assert self.task is not None
        self._cancelled, self.task = self.task, None
        self._cancelled.cancel()

    def drop_mail(self, joins: bool = False) -> None:
        """Drop the mail of a channel that has ended.

        Joins and leaves stay, unless `joins` is True: then the client is gone as well.
        """

        def goes(mail: Mail) -> bool:
            kind, what, _ = mail
            is_of_client = kind is FRAME and what.event in (JOIN, LEAVE)
            return kind.goes_with_channel and (joins or not is_of_client)

        dropped = [mail for mail in self._mail or () if goes(mail)]
        self._mail = deque(mail for mail in self._mail or () if not goes(mail))
        for kind, _, size in dropped:
            self.connection.backlog.frames -= kind is FRAME
            self._release(kind, size)

    def _drop_broadcasts(self) -> None:
        """Drop the broadcasts that wait for the channel."""
        for kind, _, size in self._mail or ():
            if kind is BROADCAST:
                self._release(kind, size)
        self._mail = deque(
            mail for mail in self._mail or () if mail[0] is not BROADCAST
        )

    async def finish(self, waited: float) -> None:
        """Wait until all mail is handled; after SHUTDOWN_TIMEOUT cancel the running callback.

        `waited` seconds of it have passed already. This does not wait for a callback that ignores
        the cancellation, nor for a ``terminate`` that takes longer than SHUTDOWN_TIMEOUT.
        """
        timeout = self.shutdown_timeout
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=timeout - waited)
        if self.task is None:
            return
        self.drop_mail(joins=True)
        ending = [mail for mail in self._mail or () if mail[0].is_end]
        self._mail = None
        cancelled, self.task = self.task, None
        cancelled.cancel()
        await asyncio.wait({cancelled}, timeout=1)
        for mail in ending:
            self._put(*mail)
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=timeout)
            if self.task is not None:
                logger.error(
                    "%s: terminate did not end in %s seconds", self.topic, timeout
                )
                self.task.cancel()

    # --------------------------------------------------- hooks of a subclass

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that a running callback may still take after the connection is gone."""
        raise NotImplementedError

    async def _on_error(self, error: BaseException, what: Any) -> None:
        """Called if the mail `what` could not be handled because of `error`."""
        raise NotImplementedError

    def _on_empty(self) -> None:
        """Called when there is no mail any more."""
        raise NotImplementedError


async def finish(mailboxes: Collection[Mailbox]) -> None:
    """Wait until all of them have finished: without a task for each, as few are late."""
    tasks = [mailbox.task for mailbox in mailboxes if mailbox.task is not None]
    if not tasks:
        return
    waited = min(mailbox.shutdown_timeout for mailbox in mailboxes)
    await asyncio.wait(tasks, timeout=waited)
    late = [mailbox.finish(waited) for mailbox in mailboxes if mailbox.task is not None]
    await asyncio.gather(*late)
