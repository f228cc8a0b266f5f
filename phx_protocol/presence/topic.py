"""PresenceTopic: the presences of one topic in one process, its own and those of all nodes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..concurrency.tasks import begin
from ..exceptions import StateError
from ..state import NOWHERE, STEP, Position, State
from ..wire import json
from .delivery import DiffSender
from .entries import Diff, Entries, Entry, Roster, by_ref
from .replica import Hint, Replica
from .waiting import Waiting

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat
    from ..node.node import Node
    from .presence import Presence

#: the name of the cast that carries a hint
HINT = "presence"
#: seconds that a hint may take
HINT_TIMEOUT = 0.1
#: so many presences of one key are looked through for one that waits; one key has not more tabs
MOST_TAKEN = 100


class Change(NamedTuple):
    """A diff that must be written: ``put`` now; or its leaves ``wait``, or are ``over``, until then."""

    diff: Diff
    done: asyncio.Future[None]
    kind: str = "put"
    until: float = 0.0


class PresenceTopic:
    """Writes each change to the state, sends it to the clients here, and to other nodes as a hint.

    If the state fails, the clients here get the change at once; the state and the other nodes get
    it when the state works again.
    """

    def __init__(self, node: Node, presence: Presence, name: str) -> None:
        self.name = name
        self.group = f"{presence.name}\n{name}"
        #: the entries that this process tracks on this topic
        self.own: Entries = {}
        #: the entries of clients that this process has lost, and until when they may come back
        self.waiting = Waiting(node.loop)
        #: True if the state may have other entries of this process than `own`
        self.is_dirty = False
        # True if the state may have entries of this process; the epoch in which it got them
        self._is_put = False
        self._epoch = ""
        self.replica: Replica | None = None
        self._node = node
        self._presence = presence
        self._diff_sender = DiffSender(node, presence, self)
        self._outbox: list[Change] = []
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Future[None] | None = None
        self._writing = asyncio.Lock()

    @property
    def _beat(self) -> Heartbeat:
        """That on the server which has the topic."""
        return self._node.heartbeat_of(self.name)

    @property
    def _state(self) -> State:
        return self._beat.state

    @property
    def is_subscribed(self) -> bool:
        return self.name in self._node.pubsub.registry

    @property
    def is_idle(self) -> bool:
        """True if this object can be dropped."""
        has = self.own or self.waiting or self.is_dirty
        does = self._outbox or self._task or self._reading
        return not (has or does or self.is_subscribed) and self._diff_sender.is_idle

    # ------------------------------------------------------------ changes made here

    def change(self, diff: Diff) -> asyncio.Future[None]:
        """Queue `diff` behind earlier changes. The returned future is done afterwards; it never raises."""
        for ref in diff.leaves:
            del self.own[ref]
        self.own.update(diff.joins)
        return self._queue(diff)

    def _queue(
        self, diff: Diff, kind: str = "put", until: float = 0.0
    ) -> asyncio.Future[None]:
        change = Change(diff, self._node.loop.create_future(), kind, until)
        self._outbox.append(change)
        if self._task is None:
            self._task = begin(self._run())
        return change.done

    async def settled(self) -> None:
        """Wait until all changes are written, or cannot be."""
        if self._task is not None:
            await self._queue(Diff())

    async def _run(self) -> None:
        try:
            await self._beat.ready()
            while self._outbox:
                changes = self._next()
                diff = Diff()
                for change in changes:
                    diff.add(change.diff)
                kind, until = changes[0].kind, changes[0].until
                parts = [*diff.parts(STEP)] if diff else []
                try:
                    if kind == "put":
                        hints = [await self._put(part, parts[-1]) for part in parts]
                    elif kind == "wait":
                        hints = [await self._let_wait(part, until) for part in parts]
                    else:
                        hints = [await self._end_wait(part, until) for part in parts]
                finally:
                    for change in changes:
                        if not change.done.done():
                            change.done.set_result(None)
                for hint in filter(None, hints):
                    await self._cast_hint(hint)
        finally:
            self._task = None

    def _next(self) -> list[Change]:
        """Take the first changes of one kind out of the outbox.

        With an interval of 0 one diff per change, as in Phoenix; else all, which also saves steps of
        the state.
        """
        first, many = self._outbox[0], 1
        if self._presence.diff_interval or first.kind != "put":
            alike = (change[2:] == first[2:] for change in self._outbox)
            many = sum(1 for _ in itertools.takewhile(bool, alike))
        changes, self._outbox = self._outbox[:many], self._outbox[many:]
        return changes

    async def _put(self, diff: Diff, last: Diff) -> Hint | None:
        puts = _packed(diff.joins)
        # True if this process has no entries on the topic after this change
        is_last = diff is last and not self.own and not self._outbox
        try:
            with self._beat.state_call():
                async with self._writing:
                    beat = self._beat  # another one, if the topic has moved
                    self._is_put = True
                    args = self.group, beat.name, puts, diff.leaves
                    done = await beat.state.change(*args)
                    self._is_put = not is_last
        except StateError:
            self.is_dirty = self._is_put or bool(self.own)
            if (replica := self._replica_of_clients()) is not None:
                diff = replica.apply_unseen(diff)
            self._deliver(diff)
            return None
        self._note_epoch(done[1].epoch, puts.keys())
        hint = Hint(*done, diff)
        self.take(hint)
        return hint

    # ---------------------------------------------------------- those that may come back

    def wait(self, diff: Diff, until: float) -> None:
        """Let the leaves of `diff` wait until then: their clients may come back."""
        for ref in diff.leaves:
            del self.own[ref]
        self._queue(diff, "wait", until)
        self.waiting.add(diff.leaves, until, self._is_over)

    def _is_over(self, left: Diff, until: float) -> None:
        self._queue(left, "over", until)

    async def _let_wait(self, diff: Diff, until: float) -> Hint | None:
        try:
            with self._beat.state_call():
                async with self._writing:
                    beat = self._beat  # another one, if the topic has moved
                    args = self.group, beat.name, until, _packed(diff.leaves)
                    _, position = await beat.state.wait(*args)
                    self._is_put = bool(self.own)
        except StateError:
            self.is_dirty = True
        else:
            self._note_epoch(position.epoch)
        return None  # nobody hears of it

    async def _end_wait(self, diff: Diff, until: float) -> Hint | None:
        """Tell of the leaves of those whose clients have not come back to another process."""
        beat = self._beat
        try:
            with beat.state_call():
                before, after = await beat.state.end_wait(
                    self.group, until, diff.leaves.keys()
                )
        except StateError:
            if (replica := self._replica_of_clients()) is not None:
                diff = replica.apply_unseen(diff)
            self._deliver(diff)
            return None
        left = after.n - before.n
        if left == len(diff.leaves):
            hint = Hint(before, after, diff)
            self.take(hint)
            return hint
        if left and self.replica is not None:  # which ones, the state knows
            self._read_soon()
        return None

    async def take_over(self, key: str) -> Entry | None:
        """Make the entry with `key` that waits longest one of this process. Return it, or None.

        While the state fails nobody knows who has it: then the client gets a new one.
        """
        roster, beat = await self.roster(), self._beat
        if not self._candidates(roster, key):
            return None
        await self.settled()
        try:
            with beat.state_call():
                async with self._writing:
                    known = self._candidates(roster, key)
                    if not known:
                        return None
                    self._is_put = True
                    ref = await beat.state.take(self.group, beat.name, known.keys())
                    if ref is None:
                        return None
                    self.own[ref] = known[ref]
                    self.waiting.take(ref)
                    return known[ref]
        except StateError:
            self.is_dirty = True  # it may be done all the same
            return None

    def _candidates(self, roster: Roster, key: str) -> Entries:
        """Return the entries with `key` that may wait for their client."""
        known = self.waiting.of(key) | roster.first(key, MOST_TAKEN)
        # what is queued has the state not seen yet
        queued = {ref for change in self._outbox for ref in change.diff.leaves}
        return {
            ref: entry
            for ref, entry in known.items()
            if ref not in self.own and ref not in queued
        }

    def _note_epoch(self, epoch: str, put: Collection[str] = ()) -> None:
        """Note that the group is in `epoch`. If it is a new one, the state has only the refs in `put`."""
        before, self._epoch = self._epoch, epoch
        mine = self.own.keys() | self.waiting.refs
        self.waiting.is_lost |= bool(before) and before != epoch
        if before and before != epoch and not mine <= set(put):
            self.is_dirty = True

    async def _cast_hint(self, hint: Hint) -> None:
        """Send a hint to the other nodes. If it is lost, they notice at their next beat."""
        body = {
            "name": self._presence.name,
            "topic": self.name,
            "before": list(hint.before),
            "after": list(hint.after),
            "joins": json.encode(list(hint.diff.joins.values())).decode(),
            "leaves": json.encode(list(hint.diff.leaves.values())).decode(),
        }
        await self._node.rpc.cast_topic(self.name, HINT, body)

    # --------------------------------------------------------------- known presences

    def take(self, hint: Hint) -> None:
        """Apply a change that this node or another one made, and send it to the clients here."""
        diff = hint.diff
        for ref in diff.leaves:
            # its client came back to another process, and left there
            self.waiting.take(ref)
        if (replica := self._replica_of_clients()) is not None:
            diff = replica.apply(hint)
            if replica.is_lost:
                self._read_soon()
        self._deliver(diff)

    def _replica_of_clients(self) -> Replica | None:
        """Return the replica, or None if no client has joined here.

        It has every change that clients were sent, also before the state is read for the first time:
        they must hear of the end of what they know.
        """
        if self.replica is None and self.is_subscribed:
            self.replica = Replica()
        return self.replica

    def _deliver(self, diff: Diff) -> None:
        if self.is_subscribed:
            self._diff_sender.put(diff)

    async def roster(self) -> Roster:
        """Return the presences: from the replica if clients here have joined, else from the state."""
        while self.is_subscribed:
            await self._beat.ready()
            replica = self._replica_of_clients()
            if replica is None:
                break  # the last client has left meanwhile
            if replica.position is not None:
                return replica.roster
            await asyncio.shield(self._read_soon())
        try:
            return Roster((await self._from_state())[1].values())
        except StateError:
            return Roster([*self.own.values(), *self.waiting.entries])

    async def _from_state(self) -> tuple[Position, Entries]:
        async def ask(beat: Heartbeat) -> tuple[Position, Mapping[str, bytes]]:
            with beat.state_call(reads=True):
                return await beat.state.entries(self.group)

        position, found = await self._node.asked(self.name, ask)
        return position, by_ref(map(Entry.unpack, found.values()))

    def unused(self) -> None:
        """Drop the replica: no client here has joined the topic any more, so hints may not arrive."""
        self.replica = None

    def _read_soon(self) -> asyncio.Future[None]:
        if self._reading is None:
            assert self.replica is not None
            self._reading = begin(self._read(self.replica))
        return self._reading

    async def _read(self, replica: Replica) -> None:
        """Update `replica` from the state, and send the difference to the clients."""
        try:
            position, entries = await self._from_state()
        except StateError:
            if replica.position is None:
                # use the entries of this process for now; the next beat corrects that
                waiting = by_ref(self.waiting.entries)
                replica.read(NOWHERE, {**self.own, **waiting})
        else:
            if position.epoch == self._epoch and not self.waiting.is_lost:
                for ref in self.waiting.refs - entries.keys():
                    self.waiting.take(ref)
            # those of this process are here, also if its lease has just ended, and others saw them leave
            shown = {r: e for r, e in self.own.items() if r in replica.entries}
            news = replica.read(position, {**shown, **entries})
            if replica is self.replica:
                self._deliver(news)
        finally:
            self._reading = None

    # ------------------------------------------------------------------- the beat

    def lose(self) -> None:
        """Note that the state has no entries of this process any more."""
        self.is_dirty = bool(self.own or self.waiting)
        self._is_put = False

    async def mend(self) -> None:
        """Write the entries of this process to the state, if it may have others. Raises StateError."""
        if not self.is_dirty:
            return
        async with self._writing:
            mine = _packed(self.own)
            self.is_dirty = False
            try:
                self._is_put = True
                node, state = self._beat.name, self._state
                position = await state.replace(self.group, node, mine)
                # those that left meanwhile must not come back, unless all is lost
                puts = self.waiting.is_lost or position.epoch != self._epoch
                for until in self.waiting.untils():
                    for part in self.waiting.leaves(until).parts(STEP):
                        waits = _packed(part.leaves)
                        await state.wait(self.group, node, until, waits, puts=puts)
                self.waiting.is_lost = False
                self._is_put, self._epoch = bool(mine), position.epoch
            except StateError:
                self.is_dirty = True
                raise

    def compare(self, position: Position) -> None:
        """Compare with `position`, that of the state.

        If the state has a new epoch, note that it may lack the entries of this process. If the
        replica does not reach the position soon, read the state.
        """
        if self.own or self.waiting:
            self._note_epoch(position.epoch)
        replica = self.replica
        if replica is None or replica.has_come_to(position):
            return
        # missing hints may still arrive; after a new epoch, wait for the other nodes, which write
        # their entries again at their next beat; it may have to wait for the beat that runs now
        timeout = HINT_TIMEOUT
        if replica.position is not None and replica.position.epoch != position.epoch:
            timeout += 2 * self._state.beat_every
        self._node.loop.call_later(
            timeout, self._compare_again, position, context=contextvars.Context()
        )

    def _compare_again(self, position: Position) -> None:
        if self.replica is not None and not self.replica.has_come_to(position):
            self._read_soon()


def _packed(entries: Entries) -> dict[str, bytes]:
    return {ref: entry.pack() for ref, entry in entries.items()}
