"""ClusterShard: what one event loop has of a Redis Cluster, which looks to the layer like one Redis.

Channels are spread over partitions, whose hash tags are in the names that Redis knows. A partition is on
one primary, and moves as a whole when its slot does. Nothing arrives twice or in another order:

- What a primary has not taken (it answers MOVED) is sent to the next one, and what comes after it waits.
- A partition ends its subscriptions at one primary before it begins them at the next: what is published in
  between is lost, as when a connection is lost, and the owner of the shard is told from when to when.
- A primary that has become a replica passes on what is published there: see ``_move``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError, RedisError

from ..concurrency.tasks import begin, end
from .connection import Done, is_moved, settle
from .partition import Message, Partition
from .primary import PREFIX, Primary
from .server import Place
from .shard import IN_FLIGHT, LIMIT, Owner, Shard
from .slots import TAGS, index_of
from .topology import Topology

#: least and most seconds between two questions to the cluster, while something is not where it should be
SOON, LATEST = 0.05, 1.0
#: seconds for which a primary is waited for, when a partition comes or goes
PATIENCE = 1.0
#: how often a subscription is begun, if its partition moves meanwhile
TRIES = 10
MOVES = "a slot of the cluster moves to another primary"


class ClusterShard:
    """Has the methods of a Shard, and a Primary for each one that is used."""

    def __init__(self, host: dict[str, Any], owner: Owner) -> None:
        self._topology = Topology(host)
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._partitions = [Partition(tag) for tag in TAGS]
        self._primaries: dict[Place, Primary] = {}
        self._marks: dict[bytes, asyncio.Future[None]] = {}
        self._held = 0  # bytes that wait for their partition to arrive
        self._following: asyncio.Task[None] | None = None
        self._round: asyncio.Future[Exception | None] | None = None
        # why the primaries are not known; None if they are, or the first question is on its way
        self._error: Exception | None = None
        self._is_cut = False  # the owner was told that messages may be lost
        self._is_closed = False

    def _of(self, channel: bytes) -> Partition:
        return self._partitions[index_of(channel, len(TAGS))]

    # -------------------------------------------------------------------- commands

    @property
    def is_sending(self) -> bool:
        """True if a command waits for its answer."""
        return self._held > 0 or any(p.is_sending for p in self._primaries.values())

    @property
    def is_full(self) -> bool:
        """True if publishers should wait: so much is sent and not answered."""
        if self._held >= IN_FLIGHT:
            return True
        for primary in self._primaries.values():
            if primary.is_full:
                return True
        return False

    def publish(
        self, channel: bytes, data: bytes, done: Done, exclude: bytes | None = None
    ) -> None:
        """Publish `data`; `done` is called with the answer or the error, perhaps at once."""
        partition = self._of(channel)
        message = Message(partition.prefix + channel, data, done, exclude)
        if partition.primary is not None and not partition.waits:
            return self._send(partition, partition.primary, message)
        self._follow()
        if self._error is not None:
            return done(self._error)
        if self._held > LIMIT:
            return done(ConnectionError(f"{self._held} bytes wait for Redis"))
        self._held += message.size
        partition.held.append(message)

    def _send(self, partition: Partition, primary: Primary, message: Message) -> None:
        partition.sent += 1
        done = partial(self._answered, partition, message)
        primary.publish(message.channel, message.data, done, message.exclude)

    def _answered(self, partition: Partition, message: Message, answer: Any) -> None:
        partition.sent -= 1
        if is_moved(answer):
            partition.refused.append(message)
            self._held += message.size
            return self.moved(answer)
        if isinstance(answer, Exception):
            # the primary may have lost the slot without saying so
            self._follow()
        message.done(answer)

    def subscribe(self, channel: bytes) -> None:
        """Ask for a subscription to `channel`. Raises the error of the connection."""
        partition = self._of(channel)
        name = partition.prefix + channel
        if partition.primary is None:
            self._follow()
            if self._error is not None:
                raise self._error
        else:
            try:
                partition.primary.subscribe(name)
            except Exception:
                self._follow()
                raise
        partition.names.add(name)

    def want(self, channel: bytes) -> None:
        """Ask for a subscription to `channel`, which comes later if its primary is away."""
        partition = self._of(channel)
        partition.names.add(partition.prefix + channel)
        with contextlib.suppress(RedisError, OSError):
            self.subscribe(channel)

    def is_away(self) -> bool:
        """Return True if the cluster cannot be reached; tell the owner that messages are missed then."""
        if self._error is not None and not self._is_cut:
            self._is_cut = True
            self._owner.disconnected(self, self._error)
        return self._error is not None

    async def subscribed(self, channel: bytes) -> None:
        """Wait until Redis has acknowledged the subscription to `channel`. Raises its error."""
        partition = self._of(channel)
        name = partition.prefix + channel
        error: Exception = ConnectionError(f"not subscribed to {channel!r}")
        moves = False
        for _ in range(TRIES):
            primary = partition.primary
            if primary is not None:
                try:
                    await primary.subscribed(name)
                    # if the partition has moved meanwhile, it was discarded there
                    if partition.primary is primary:
                        return
                except Exception as found:
                    error, moves = found, moves or is_moved(found)
                    if partition.primary is primary and not moves:
                        raise
            if name not in partition.names:
                return
            await self._next_round()
        raise error

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe from `channel`, without waiting for it."""
        partition = self._of(channel)
        name = partition.prefix + channel
        partition.names.discard(name)
        if partition.primary is not None:
            partition.primary.unsubscribe(name)

    def look_now(self) -> None:
        """Look now if the servers are still primaries."""
        for primary in self._primaries.values():
            primary.look_now()

    # ------------------------------------------------------ the owner of the primaries

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        if channel in self._marks:
            return settle(self._marks[channel])(None)
        self._owner.message(channel[PREFIX:], data, exclude)

    def has_room(self) -> None:
        if not self.is_full:
            self._owner.has_room()

    def disconnected(self, shard: Shard, error: Exception) -> None:
        self._cut(error)

    def reconnected(self, shard: Shard) -> None:
        self._follow()

    def ended(self, channel: bytes) -> None:
        """Note that Redis has ended a subscription, because its slot has moved."""
        self._of(channel[PREFIX:]).has_lost = True
        self._cut(ConnectionError(MOVES))

    def moved(self, error: Exception) -> None:
        """Note the error MOVED."""
        self._topology.note(error)
        self._follow()

    def demoted(self) -> None:
        self._follow()

    def _cut(self, error: Exception) -> None:
        """Tell the owner that messages are lost, until all is where it should be."""
        self._follow()
        if not self._is_cut:
            self._is_cut = True
            self._owner.disconnected(self, error)

    # --------------------------------------------------- following what the cluster does

    def _follow(self) -> None:
        """Ask the cluster who has what, until all is where it should be."""
        if self._following is None and not self._is_closed:
            self._error = None
            self._following = begin(self._run())

    async def _run(self) -> None:
        delay = SOON
        try:
            while True:
                error = await self._one_round()
                self._end_round(error)
                await self._close_unused()
                if error is None and all(p.is_whole for p in self._partitions):
                    break
                if error is not None and not any(p.names for p in self._partitions):
                    break  # nothing can be lost, and whoever publishes will ask again
                await asyncio.sleep(delay * random.uniform(0.5, 1))
                delay = min(2 * delay, LATEST)
        finally:
            self._following = None
        if self._is_cut:
            self._is_cut = False
            self._owner.reconnected(self)

    async def _one_round(self) -> Exception | None:
        """Ask who has which slot, and move to there; return the error if that cannot be found out."""
        try:
            await self._topology.refresh()
        except Exception as error:
            return error
        self._error = None
        settling = map(self._settle, self._partitions)
        found = await asyncio.gather(*settling, return_exceptions=True)
        return next((error for error in found if isinstance(error, Exception)), None)

    def _end_round(self, error: Exception | None) -> None:
        """Tell whoever waits for the end of this round; if it failed, so does what waits to be sent."""
        if error is not None:
            self._error = error
            for partition in self._partitions:
                self._fail(partition, error)
        waiting, self._round = self._round, None
        if waiting is not None:
            waiting.set_result(error)
        self.has_room()

    async def _next_round(self) -> None:
        """Wait until a round has ended. Raises its error."""
        self._follow()
        if self._following is None:
            raise ConnectionError("the connection was closed")
        if self._round is None:
            self._round = self._loop.create_future()
        error = await asyncio.shield(self._round)
        if error is not None:
            raise error

    async def _settle(self, partition: Partition) -> None:
        """Bring a partition to where it should be."""
        owner = self._topology.place_of(partition.slot)
        primary = partition.primary if owner is None else self._primary_at(owner)
        if primary is None:
            nobody = f"no primary of the cluster has the slot {partition.slot}"
            return self._fail(partition, ConnectionError(nobody))
        if partition.primary is None:
            partition.primary = primary
        elif partition.primary is not primary:
            error = await self._move(partition, partition.primary, primary)
            if error is not None:
                if not is_moved(error):
                    self._fail(partition, error)
                return
        if not primary.subscriptions.are_active(partition.names):
            primary.adopt(partition.names)
        partition.has_lost = False
        if not partition.sent:
            for message in partition.take_waiting():
                self._held -= message.size
                self._send(partition, primary, message)

    def _primary_at(self, place: Place) -> Primary:
        if place not in self._primaries:
            host = self._topology.host_of(place)
            self._primaries[place] = Primary(host, self)
        return self._primaries[place]

    async def _move(
        self, partition: Partition, old: Primary, new: Primary
    ) -> Exception | None:
        """Move a partition; return an error if the new primary does not take it.

        The old one, if it is a replica by now, passes on what is published there: so a mark is sent behind
        that. When it has arrived, nothing can come late or a second time.
        """
        mark = partition.prefix + secrets.token_bytes(8)
        self._marks[mark] = arrived = self._loop.create_future()
        try:
            try:
                async with asyncio.timeout(PATIENCE):
                    new.subscribe(mark)
                    await new.subscribed(mark)
            except Exception as error:
                return error  # what it says has been noted: see moved()
            partition.primary = None  # what is published now waits
            if partition.names:
                self._cut(ConnectionError(MOVES))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._part(partition, old, mark, arrived)
            if partition.sent or not arrived.done():
                # nothing may be taken, or come, from there any more
                await old.give_up(ConnectionError("it has lost its slots"))
            partition.primary = new
            return None
        finally:
            del self._marks[mark]
            new.unsubscribe(mark)

    async def _part(
        self,
        partition: Partition,
        old: Primary,
        mark: bytes,
        arrived: asyncio.Future[None],
    ) -> None:
        """End what a partition has at `old`, and wait until `mark`, which is sent there, has arrived."""
        for name in partition.names:
            old.unsubscribe(name)
        if not old.is_connected:
            return settle(arrived)(None)
        await old.flushed()
        answer: asyncio.Future[Any] = self._loop.create_future()
        old.publish(mark, b"", settle(answer))
        if isinstance(await answer, Exception):
            settle(arrived)(None)  # it passes nothing on
        await arrived

    def _fail(self, partition: Partition, error: Exception) -> None:
        for message in partition.take_waiting():
            self._held -= message.size
            message.done(error)

    async def _close_unused(self) -> None:
        used = {partition.primary for partition in self._partitions}
        wanted = {
            self._topology.place_of(partition.slot) for partition in self._partitions
        }
        for at, primary in [*self._primaries.items()]:
            if primary not in used and at not in wanted and not primary.is_sending:
                await primary.close()
                del self._primaries[at]

    async def close(self) -> None:
        """Close all connections; what waits for them fails. The shard is not used after that."""
        self._is_closed = True
        await end(self._following)
        self._is_cut = False
        error = ConnectionError("the connection was closed")
        self._end_round(error)
        closing = (primary.close() for primary in self._primaries.values())
        await asyncio.gather(*closing)
        await self._topology.close()
