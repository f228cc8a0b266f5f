"""Teller: claims changes from the state, and calls the receivers of their signals."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Collection, Iterable, KeysView
from typing import TYPE_CHECKING

from ..concurrency.tasks import begin, must_end
from ..exceptions import StateError
from ..logs import get_logger
from ..node.blocking import on_its_own
from ..signals import AwaitedSignal
from ..state.occupancy import Change, Occupancy, Seen

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat

logger = get_logger("phx_protocol.signals")

#: how many signals of one kind a node sends at the same time, and how many changes it claims for that
AT_ONCE, CLAIMED = 8, 100


class Teller:
    """The signals of one kind of names: `came` and `left`, which get a name as the argument `kind`.

    A change is claimed, told, and noted as told. With each beat this node keeps what it has claimed. If it
    dies, another one claims that, with the same ids. A node without receivers claims nothing.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        kind: str,
        came: AwaitedSignal,
        left: AwaitedSignal,
    ) -> None:
        self._node = heartbeat.node
        self._heartbeat = heartbeat
        self._kind = kind
        self._signals = {True: came, False: left}
        self._due: dict[str, float] = {}  # name -> the loop's time to claim its change
        self._claimed: dict[Change, None] = {}  # the first is told next
        self._running: dict[Change, asyncio.Task[None]] = {}
        self._told: list[Change] = []  # the state does not know it yet
        self._are_more = False  # True if other nodes have left more than was claimed
        self._begun = 0  # how many were begun since the last beat
        self._task: asyncio.Task[None] | None = None

    @property
    def occupancy(self) -> Occupancy:
        return self._heartbeat.state.occupancy(self._kind)

    @property
    def is_heard(self) -> bool:
        """True if this process has a receiver for one of the signals."""
        return any(signal.has_listeners() for signal in self._signals.values())

    @property
    def is_busy(self) -> bool:
        return bool(self._due or self._claimed or self._running or self._told)

    @property
    def due(self) -> KeysView[str]:
        """The names of which a change is to be claimed, as far as this node knows."""
        return self._due.keys()

    @property
    def claims(self) -> dict[str, bool]:
        """For each name whose change this node has claimed: whether the last signal said that it is here.

        A signal that is being sent counts as sent.
        """
        begun = (*self._running, *self._told)
        last = {change.name: not change.is_here for change in self._claimed}
        return last | {change.name: change.is_here for change in begun}

    def expect(self, name: str, seconds: float | None) -> None:
        """Claim the change of `name` after so many seconds; None if there is none."""
        if seconds is None or not self.is_heard:
            self._due.pop(name, None)
        else:
            self._due[name] = self._node.loop.time() + seconds

    def work(self) -> None:
        """Tell what is due."""
        if self.is_busy and (self._task is None or self._task.done()):
            self._task = begin(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(StateError):
            await self._note()
            if self._claimed:  # this node may have been away for long
                with self._heartbeat.state_call():
                    await self._hold()
            while self._claimed or await self._claim() or await self._claim_any():
                while self._claimed and len(self._running) < AT_ONCE:
                    change = next(iter(self._claimed))
                    del self._claimed[change]
                    self._begun += 1
                    self._running[change] = begin(self._tell(change))
                if self._claimed:
                    tasks = self._running.values()
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    # ------------------------------------------------------------------- to claim

    async def _claim(self) -> bool:
        """Claim what is due. Return whether there was anything. Raises StateError."""
        now = self._node.loop.time()
        due = [name for name, at in self._due.items() if at <= now][:CLAIMED]
        if not (due and self._may_claim):
            return False
        with self._heartbeat.state_call():
            self._add(await self.occupancy.claim(due, self._seconds))
        for name in due:
            if self._due.get(name, now) <= now:
                self._due.pop(name, None)
        return True

    async def _claim_any(self) -> bool:
        """Claim more of what other nodes have left. Return whether there was anything. Raises StateError."""
        if not (self._are_more and self._may_claim):
            return False
        with self._heartbeat.state_call():
            await self._sweep((), CLAIMED)
        return bool(self._claimed)

    async def _sweep(self, names: Collection[str], most: int) -> list[str]:
        changes, lost = await self.occupancy.sweep(names, most, self._seconds)
        self._are_more = self._add(changes)
        return lost

    def _add(self, changes: Iterable[Change]) -> bool:
        """Take changes that were claimed; return whether there was any that this node did not have."""
        known = {*self._running, *self._told}
        new = [change for change in changes if change not in known]
        self._claimed.update(dict.fromkeys(new))
        return bool(new)

    @property
    def _may_claim(self) -> bool:
        has_room = len(self._running) < AT_ONCE
        return has_room and self.is_heard and not self._node.drainer.is_on

    @property
    def _seconds(self) -> float:
        """For how long a node that does not beat keeps what it has claimed."""
        return self._heartbeat.state.silence

    # -------------------------------------------------------------------- to tell

    async def _tell(self, change: Change) -> None:
        try:
            with contextlib.suppress(StateError):
                if await self._is_ours(change):
                    await self._send(change)
                self._told.append(change)
                await self._note()
        finally:
            del self._running[change]

    async def _is_ours(self, change: Change) -> bool:
        """Return False if the name is on another server now, and is told there. Raises StateError.

        If the last process that had the name ended before the change, the other server does not know it:
        then this one tells that it has left.
        """
        if self._heartbeat.has(change.name):
            return True
        if change.is_here:
            return False

        async def ask(heartbeat: Heartbeat) -> list[Seen]:
            with heartbeat.state_call(reads=True):
                occupancy = heartbeat.state.occupancy(self._kind)
                return await occupancy.look([change.name], 0.0)

        (seen,) = await self._node.asked(change.name, ask)
        return seen.at is None

    async def _send(self, change: Change) -> None:
        """Call the receivers. Whatever they raise, it is told; if the process ends, another one tells it."""
        at = datetime.datetime.fromtimestamp(change.at, datetime.timezone.utc)
        named = {self._kind: change.name, "id": change.id, "at": at}
        try:
            send = self._signals[change.is_here].asend_robust(None, **named)
            await on_its_own(send)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if must_end(error):
                raise
            logger.exception("a receiver of a signal was cancelled, or worse")

    async def _note(self) -> None:
        """Let the state know what was told. Raises StateError."""
        if not self._told:
            return
        told, self._told = self._told, []
        try:
            with self._heartbeat.state_call():
                waits = await self.occupancy.told(told)
        except BaseException:
            self._told += told
            raise
        for change, wait in zip(told, waits):
            if wait is not None:
                self.expect(change.name, wait)
        self.work()

    # ------------------------------------------------------------------- the beat

    async def sweep(self, names: Collection[str]) -> list[str]:
        """Keep what is claimed, and claim what other nodes have left. Raises StateError.

        Return those of `names`, all that this node has written, that the state has lost.
        """
        if not self._begun:
            await self.give_back()  # all receivers hang: others may tell the rest
        self._begun = 0
        await self._hold()
        most = CLAIMED - len(self._claimed) if self._may_claim else 0
        lost = await self._sweep(names, most)
        self.work()
        return lost

    async def _hold(self) -> None:
        """Keep what is claimed; forget what another node has told meanwhile. Raises StateError."""
        mine = [*self._claimed, *self._running, *self._told]
        held = set(await self.occupancy.hold(mine, self._seconds)) if mine else set()
        self._claimed = {change: None for change in self._claimed if change in held}

    async def give_back(self) -> None:
        """Leave to other nodes what is claimed and not begun. Raises StateError."""
        if self._claimed:
            rest, self._claimed = self._claimed, {}
            await self.occupancy.hold(rest, 0.0)

    async def settled(self) -> None:
        """Wait for the receivers that run; other nodes tell the rest."""
        self._due.clear()
        if self._running:
            await asyncio.wait(self._running.values())
