"""Subscriptions: the channels of Redis that one connection is subscribed to, and those it should be.

In a cluster these are "shard channels" with commands of their own. Each command there may only name channels
of one slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError, ResponseError

from ..logs.printable import describe
from . import resp
from .connection import HELLO, Command, is_moved, logger

#: most channels in one SUBSCRIBE
CHUNK = 1000


class Commands(NamedTuple):
    """The commands for one kind of channels; `slot` returns what all channels of a command have in common."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes
    slot: Callable[[bytes], bytes]


ORDINARY = Commands(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH", lambda name: b"")


class Batch:
    """Channels that were asked for together: one SUBSCRIBE, and one future for all who wait for it."""

    def __init__(self) -> None:
        self.names: dict[bytes, None] = {}
        self.done: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._left = 1  # number of commands without an answer
        self._error: Exception | None = None

    def expect(self, answers: int) -> None:
        self._left = answers

    def answer(self, error: Exception | None) -> None:
        """Note the answer to one command, or the error."""
        self._error = self._error or error
        self._left -= 1
        if self._left <= 0 and not self.done.done():
            self.done.set_result(self._error)


class Subscriptions:
    """Knows which channels are wanted, and makes the commands that are missing for that."""

    def __init__(self, words: Commands = ORDINARY) -> None:
        self._words = words
        #: called with the error of each SUBSCRIBE
        self.on_refusal: Callable[[Exception], None] = _ignore
        self._wanted: set[bytes] = set()
        # SUBSCRIBE was sent for them, and no UNSUBSCRIBE
        self._sent: set[bytes] = set()
        self._active: set[bytes] = set()  # Redis has acknowledged them
        self._waiting: dict[bytes, Batch] = {}  # for the answer to SUBSCRIBE
        self._new: list[Batch] = []  # the batches to send
        self._open: dict[bytes, Batch] = {}  # slot -> the one of them that has room
        self._refused: list[tuple[Batch, bytes]] = []  # to ask for once more
        self._gone: dict[bytes, None] = {}  # the channels to unsubscribe from

    def __len__(self) -> int:
        return len(self._wanted)

    async def added(self, name: bytes) -> None:
        """Wait until Redis has acknowledged the subscription to `name`. Raises its error."""
        error: Exception | None = None
        while name in self._wanted and name not in self._active:
            batch = self._waiting.get(name)
            if batch is None:
                raise error or ConnectionError(f"not subscribed to {name!r}")
            error = await asyncio.shield(batch.done)

    def add(self, name: bytes) -> bool:
        """Want `name`. Return True if there is a command to send for it."""
        self._wanted.add(name)
        if name in self._active or name in self._waiting:
            return False
        slot = self._words.slot(name)
        batch = self._open.get(slot)
        if batch is None or len(batch.names) == CHUNK:
            batch = self._open[slot] = Batch()
            self._new.append(batch)
        self._waiting[name] = batch
        batch.names[name] = None
        return True

    def discard(self, name: bytes) -> bool:
        """Want `name` no longer. Return True if there is a command to send for it."""
        self._wanted.discard(name)
        self._active.discard(name)
        self._waiting.pop(name, None)
        if name in self._sent:
            self._gone[name] = None
        return bool(self._gone)

    def ended(self, name: bytes) -> bool:
        """Note that `name` does not arrive any more. Return True if it is wanted, and nothing was sent for it."""
        if name not in self._active:
            return False
        self._active.discard(name)
        self._sent.discard(name)
        return True

    def are_active(self, names: Iterable[bytes]) -> bool:
        """Return True if Redis has acknowledged the subscriptions to all `names`."""
        return self._active.issuperset(names)

    def restore(self) -> asyncio.Future[Any] | None:
        """Ask for all wanted channels, on a new connection; return a future that is then done."""
        for name in self._wanted:
            self.add(name)
        for batch in self._new:
            batch.done.add_done_callback(_log_refusal)
        return self._new[-1].done if self._new else None

    def lost(self, error: Exception) -> None:
        """Note that the connection is lost, and with it all subscriptions."""
        # also those of whose channels none is wanted any more: somebody may wait
        refused = (batch for batch, _ in self._refused)
        for batch in {*self._waiting.values(), *self._new, *refused}:
            batch.expect(0)
            batch.answer(error)
        for found in (self._waiting, self._sent, self._active, self._gone):
            found.clear()
        self._new, self._refused, self._open = [], [], {}

    def commands(self) -> list[Command]:
        """Return the commands that make the subscriptions as wanted."""
        commands = []
        gone = [name for name in self._gone if name not in self._wanted]
        self._gone.clear()
        if gone:
            self._sent.difference_update(gone)
            commands += self._unsubscribe(gone)
        batches, self._new, self._open = self._new, [], {}
        for batch in batches:
            names = [name for name in batch.names if self._waiting.get(name) is batch]
            if names:
                commands.append(self._subscribe(batch, names))
            else:
                batch.answer(None)
        refused, self._refused = self._refused, []
        for batch, name in refused:
            if self._waiting.get(name) is batch:
                commands.append(self._subscribe(batch, [name]))
            else:
                batch.answer(None)
        return commands

    def _subscribe(self, batch: Batch, names: list[bytes]) -> Command:
        self._sent.update(names)
        done = partial(self._answered, batch, names)
        data = resp.pack(self._words.subscribe, *names)
        return Command((data,), len(data), done, answers=len(names))

    def _unsubscribe(self, names: list[bytes]) -> list[Command]:
        if self._words is ORDINARY:
            data = resp.pack(b"UNSUBSCRIBE", *names)
            return [Command((data,), len(data), _ignore, answers=len(names))]
        slots: dict[bytes, list[bytes]] = {}
        for name in names:
            slots.setdefault(self._words.slot(name), []).append(name)
        commands = []
        for some in slots.values():
            # what is pushed for it cannot be told from what Redis pushes by itself, and there may be an
            # error as well: the answer to the second command says that the first one is done
            data = resp.pack(self._words.unsubscribe, *some) + HELLO
            commands.append(Command((data,), len(data), _ignore, may_fail=True))
        return commands

    def _answered(self, batch: Batch, names: list[bytes], answer: Any) -> None:
        error = answer if isinstance(answer, Exception) else None
        # the others were discarded meanwhile, and perhaps asked for again by another command
        wanted = [name for name in names if self._waiting.get(name) is batch]
        if isinstance(error, ResponseError):
            self.on_refusal(error)
            self._sent.difference_update(wanted)
            if wanted and len(names) > 1 and not is_moved(error):
                # Redis refuses all of them because of one: ask for each by itself
                batch.expect(len(wanted))
                self._refused += [(batch, name) for name in wanted]
                return
        for name in wanted:
            del self._waiting[name]
            if error is None:
                self._active.add(name)
        batch.answer(error)


def _ignore(answer: Any) -> None: ...


def _log_refusal(done: asyncio.Future[Exception | None]) -> None:
    """Log the error of a subscription that was one before: nobody waits for it."""
    error = done.result()
    if isinstance(error, ResponseError) and not is_moved(error):
        logger.error("Redis does not restore each subscription: %s", describe(error))
