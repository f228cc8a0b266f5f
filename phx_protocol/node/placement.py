"""Placement: which server of the state has a topic, a user or an address, also while the servers change.

A change takes three deploys, of which the first only lets every process know the next servers (NEXT_HOSTS).
The first process of the second one (PREVIOUS_HOSTS) makes a new ring. From then on the servers refuse
whoever goes by the old one: so nobody writes anything of a topic on two servers, and each process learns
of the ring with its next call, or the next beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..concurrency.tasks import begin
from ..logs import get_logger
from ..state.factory import Servers
from ..state.rings import Rings, id_of, is_newer

if TYPE_CHECKING:
    from .heartbeat import Heartbeat

logger = get_logger("phx_protocol.state")

AGAINST = (
    "the servers of the state stay as they are: a process (%s, pid %s) does not know the new ones. First let "
    "all processes know them as NEXT_HOSTS"
)
NOT_PREVIOUS = (
    "the servers of the state stay as they are: other processes (%s, pid %s) use others. To change them while "
    "processes run, name those in use as PREVIOUS_HOSTS"
)
SAME = (
    "two of the servers %s are the same one: messages come twice, and the servers of the state stay as they are. "
    "Give it one name in all lists"
)


class Placement:
    """The rings by which a node goes; `switched` is called when it goes by another one, with those before."""

    def __init__(
        self,
        servers: Servers,
        heartbeats: list[Heartbeat],
        switched: Callable[[Rings], None],
    ) -> None:
        self.rings = Rings([servers.previous or servers.used])
        #: the ids of the servers that its settings want
        self.wanted = servers.used
        self._previous = servers.previous
        #: whether it may ask for a change
        self.asks = True
        self._leaves_it_to_others = servers.has_next
        self._has_asked = False
        self._heartbeats = {id_of(beat.state.server): beat for beat in heartbeats}
        self._first = heartbeats[0]
        self._switched = switched
        self._newest = self.rings
        self._task: asyncio.Task[None] | None = None
        self._is_told = False
        for beat in heartbeats:
            beat.state.follow(self.rings, self._learn)

    def heartbeat_of(self, name: str) -> Heartbeat:
        """Return the heartbeat on the server that has `name`.

        If this process does not know that server, return any: its state will say that it has moved.
        """
        if len(self._heartbeats) == 1:
            return self._first
        return self._heartbeats.get(self.rings.place(name).server, self._first)

    def is_known(self, name: str) -> bool:
        """Return True if this process knows the server that has `name`."""
        if len(self.rings.servers) == 1:
            return self.rings.servers[0] in self._heartbeats
        return self.rings.place(name).server in self._heartbeats

    @property
    def in_use(self) -> list[Heartbeat]:
        """The heartbeats on the servers that are in use, as far as this process knows them."""
        known = self._heartbeats
        return [known[id] for id in self.rings.servers if id in known] or [self._first]

    @property
    def servers(self) -> list[str]:
        """The names of the servers in use, by which processes with different lists are found."""
        return sorted(beat.state.server for beat in self.in_use)

    @property
    def _beats(self) -> list[Heartbeat]:
        return [*self._heartbeats.values()]

    # ------------------------------------------------------------------- a change

    def _learn(self, rings: Rings) -> None:
        """Go by `rings`, which a server has: begin to, or go on when the change that runs is over."""
        if is_newer(rings, self._newest):
            self._newest = rings
            self._begin()

    def _begin(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = begin(self._change())
        return self._task

    async def settled(self) -> None:
        """Wait for a change that has begun."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _change(self) -> None:
        """Let the servers refuse whoever goes by an older ring, then go by the newest."""
        while self.rings is not self._newest:
            rings = self._newest
            beats = self._beats
            adopted = await asyncio.gather(
                *(beat.state.adopt(rings) for beat in beats), return_exceptions=True
            )
            for beat, error in zip(beats, adopted):
                if error is not None:
                    where = beat.state.server
                    logger.warning("%s is away while servers change: %s", where, error)
            if self._newest is rings:  # else a server had a newer one
                before, self.rings = self.rings, rings
                if before.servers != rings.servers:
                    self.asks = self.asks and not self._has_asked
                    self._tell()
                self._switched(before)

    def _tell(self) -> None:
        unknown = [id for id in self.rings.servers if id not in self._heartbeats]
        if unknown:
            logger.error(
                "the state is on other servers now, %d of which this process does not know: what belongs "
                "there stays in this process. Change its list of servers (HOSTS, PREVIOUS_HOSTS)",
                len(unknown),
            )
        elif self._has_asked:  # else this process has only just looked
            logger.warning("the state is on %s now", ", ".join(self.servers))

    # ------------------------------------------------------------ to ask for a change

    async def ask(self) -> None:
        """Make the servers that the settings want those in use, if all processes agree. Raises StateError.

        They must know these servers, if this process names those in use as the previous ones; else they must
        want them too. A process that has seen a change asks for none: a later one has made that.
        """
        known = self._newest
        is_changing = self.rings is not known
        if not self.asks or is_changing or any(b.is_down for b in self._beats):
            return
        if self._are_same():
            return
        self._has_asked = True
        if self._leaves_it_to_others or [*known.servers] == self.wanted:
            self.asks = False
        elif await self._all_agree([*known.servers] == self._previous):
            if self._newest is known:  # else another process was faster
                self._newest = known.then(self.wanted)
                await asyncio.shield(self._begin())

    def _are_same(self) -> bool:
        """Return True if two of the servers are one with two names; tell the log once."""
        stores = [*filter(None, (beat.state.store for beat in self._beats))]
        if len({*stores}) == len(stores):
            return False
        names = (beat.state.server for beat in self._beats)
        self._tell_once(SAME, ", ".join(sorted(names)))
        return True

    def _tell_once(self, *args: Any) -> None:
        if not self._is_told:
            self._is_told = True
            logger.error(*args)

    async def _all_agree(self, is_next: bool) -> bool:
        """Return True if no living process is against it; tell the log once if one is."""
        abouts = [
            about
            for beat in self.in_use
            for about in (await beat.state.nodes()).values()
        ]
        for about in abouts:
            known = {id_of(server) for server in about.get("knows", ())}
            agrees = known.issuperset(self.wanted) if is_next else False
            if not agrees and about.get("wants") != self.wanted:
                why = AGAINST if is_next else NOT_PREVIOUS
                self._tell_once(why, about["host"], about["pid"])
                return False
        return True
