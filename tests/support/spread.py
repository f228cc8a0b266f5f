"""A state that is spread over several servers, as a process has it: for tests that have one state."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from django.test import override_settings

from phx_protocol.node.neighbours import known_counts, known_nodes
from phx_protocol.node.node import Node
from phx_protocol.state import Item, Kept, Position, State
from phx_protocol.state.base import About, Entries
from phx_protocol.state.occupancy import Change, Mark, Occupancy, Seen
from phx_protocol.state.redis import RedisState
from phx_protocol.state.rings import Rings, id_of
from tests.support import servers

SHARDS = 3

T = TypeVar("T")
R = TypeVar("R")


class Shards:
    """Three servers. `together` are names that should be on different ones, as far as they can."""

    def __init__(self, directory: Path, *together: Sequence[str]) -> None:
        self._directory = directory
        while True:
            self.ports = [servers.free_port() for _ in range(SHARDS)]
            places = [{*map(self.place_of, names)} for names in together]
            if all(
                len(found) == min(len(names), SHARDS)
                for found, names in zip(places, together)
            ):
                break
        self._running = [contextlib.ExitStack() for _ in self.ports]
        self.servers: list[servers.Server] = []
        for place in range(SHARDS):
            self.servers.append(self.start(place))

    @property
    def urls(self) -> list[str]:
        return [f"redis://127.0.0.1:{port}/0" for port in self.ports]

    @property
    def names(self) -> list[str]:
        """Their names, as the log has them."""
        return [f"127.0.0.1:{port}/0" for port in self.ports]

    def place_of(self, topic: str) -> int:
        """Which of them has the state of a topic."""
        ids = [*map(id_of, self.names)]
        return ids.index(Rings([ids]).place(topic).server)

    def start(self, place: int) -> servers.Server:
        """Start one, which is empty, where it was."""
        self._running[place].close()
        running = servers.redis(self._directory, self.ports[place])
        server = self._running[place].enter_context(running)
        self.servers[place:] = [server, *self.servers[place + 1 :]]
        return server

    def stop(self) -> None:
        for stack in self._running:
            stack.close()


@contextlib.contextmanager
def shards(
    directory: Path, *together: Sequence[str], lease: float = 30.0
) -> Iterator[Shards]:
    """Three servers, over which the state and the layer are spread."""
    shards = Shards(directory, *together)
    backend = {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": shards.urls},
    }
    state = {"LEASE": lease, "TIMEOUT": 5.0}
    settings = {
        "CHANNEL_LAYERS": {"default": backend},
        "PHX_PROTOCOL": {"STATE": state},
    }
    try:
        with override_settings(**settings):
            yield shards
    finally:
        shards.stop()


class SpreadState(State):
    """Sends each call to the server that has the topic, and what concerns a node to all of them.

    Which server that is, and how their answers become one, it leaves to `node`, whose heartbeats do
    not run.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.states = [one.state for one in node.heartbeats]
        self.lease = self.states[0].lease
        # node -> its name on each server
        self._names: dict[str, list[str]] = {}
        self._ids = itertools.count()

    def of(self, name: str) -> State:
        return self.node.heartbeat_of(name).state

    def of_group(self, group: str) -> State:
        return self.of(group.partition("\n")[2])

    def names_of(self, node: str) -> Iterator[tuple[State, str]]:
        """The servers, and what they call that node."""
        yield from zip(self.states, self._names.setdefault(node, [node] * SHARDS))

    def name_on(self, state: State, node: str) -> str:
        return dict(self.names_of(node))[state]

    async def lose(self, place: int, node: str, about: About) -> None:
        """Take a new name on one server, which has lost everything, as a heartbeat does."""
        name = f"{node} {next(self._ids)}"
        self._names[node] = [*self._names.get(node, [node] * SHARDS)]
        self._names[node][place] = name
        state, about = self.states[place], {**about, "node": node}
        assert await state.beat(name, about, first=True)

    async def lost(self) -> None:
        for state in self.states:
            await state.lost()

    async def close(self) -> None:
        for state in self.states:
            await state.close()

    # ------------------------------------------------------------------- of all

    async def beat(self, node: str, about: About, *, first: bool = False) -> bool:
        about = {**about, "node": node}
        renewed = {
            await state.beat(name, about, first=first)
            for state, name in self.names_of(node)
        }
        (answer,) = renewed  # they agree
        return answer

    async def reap(self) -> int:
        return sum([await state.reap() for state in self.states])

    async def leave(self, node: str) -> None:
        for state, name in self.names_of(node):
            await state.leave(name)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        nodes = await known_nodes(self.node)
        for about in nodes.values():
            del about["node"]
        return nodes

    async def count(self, node: str, counts: Mapping[str, int]) -> int:
        counted = 0
        for state, name in self.names_of(node):
            own = {topic: n for topic, n in counts.items() if self.of(topic) is state}
            counted += await state.count(name, own)
        return counted

    async def counts(self) -> dict[str, dict[str, int]]:
        return await known_counts(self.node)

    def occupancy(self, kind: str) -> Occupancy:
        return SpreadOccupancy(self, kind)

    # --------------------------------------------------------------- presences

    async def change(
        self, group: str, node: str, puts: Entries, drops: Collection[str]
    ) -> tuple[Position, Position]:
        state = self.of_group(group)
        return await state.change(group, self.name_on(state, node), puts, drops)

    async def replace(self, group: str, node: str, entries: Entries) -> Position:
        state = self.of_group(group)
        return await state.replace(group, self.name_on(state, node), entries)

    async def wait(
        self,
        group: str,
        node: str,
        until: float,
        entries: Entries,
        *,
        puts: bool = False,
    ) -> tuple[Position, Position]:
        state = self.of_group(group)
        name = self.name_on(state, node)
        return await state.wait(group, name, until, entries, puts=puts)

    async def take(self, group: str, node: str, refs: Collection[str]) -> str | None:
        state = self.of_group(group)
        return await state.take(group, self.name_on(state, node), refs)

    async def end_wait(
        self, group: str, until: float, refs: Collection[str]
    ) -> tuple[Position, Position]:
        return await self.of_group(group).end_wait(group, until, refs)

    async def entries(self, group: str) -> tuple[Position, dict[str, bytes]]:
        return await self.of_group(group).entries(group)

    async def positions(self, groups: Sequence[str], node: str = "") -> list[Position]:
        places = map(self.of_group, groups)
        found = {}
        for state, own in _split(groups, places):
            name = self.name_on(state, node) if node else ""
            found.update(zip(own, await state.positions(own, name)))
        return [found[group] for group in groups]

    # ----------------------------------------------------------- rates, histories

    async def rate(self, name: str, times: int, seconds: float) -> float:
        return await self.of(name).rate(name, times, seconds)

    async def append(self, items: Sequence[Item]) -> list[Position | None]:
        places = (self.of(item.topic) for item in items)
        found = {}
        for state, own in _split(items, places):
            kept = await state.append(own)
            found.update(zip([item.id for item in own], kept))
        return [found[item.id] for item in items]

    async def since(
        self, topic: str, n: int, ttl: float, **how: Any
    ) -> tuple[Position, list[Kept]]:
        return await self.of(topic).since(topic, n, ttl, **how)

    async def rewind(
        self, topic: str, n: int, ttl: float, **how: Any
    ) -> tuple[Position, int]:
        return await self.of(topic).rewind(topic, n, ttl, **how)

    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        return await self.of(topic).kept(topic, ttl)

    async def open(self, topic: str, ttl: float) -> Position:
        return await self.of(topic).open(topic, ttl)

    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        found = {}
        for state, own in _split([*topics], map(self.of, topics)):
            heads = await state.heads({topic: topics[topic] for topic in own})
            found.update(zip(own, heads))
        return [found[topic] for topic in topics]

    async def reset(self, topic: str) -> None:
        await self.of(topic).reset(topic)


class SpreadOccupancy(Occupancy):
    """The same for users and topics that are here or not."""

    def __init__(self, spread: SpreadState, kind: str) -> None:
        self._spread = spread
        self._kind = kind

    def _split(
        self, some: Iterable[T], names: Iterable[str]
    ) -> list[tuple[State, Occupancy, list[T]]]:
        split = _split(some, map(self._spread.of, names))
        return [(state, state.occupancy(self._kind), own) for state, own in split]

    async def mark(
        self, node: str, marks: Sequence[Mark], delay: float
    ) -> list[float | None]:
        found = {}
        for state, one, own in self._split(marks, [mark.name for mark in marks]):
            name = self._spread.name_on(state, node)
            found.update(zip(own, await one.mark(name, own, delay)))
        return [found[mark] for mark in marks]

    async def look(self, names: Sequence[str], delay: float) -> list[Seen]:
        found = {}
        for _, one, own in self._split(names, names):
            found.update(zip(own, await one.look(own, delay)))
        return [found[name] for name in names]

    async def claim(self, names: Collection[str], seconds: float) -> list[Change]:
        split = self._split(names, names)
        return _joined([await one.claim(own, seconds) for _, one, own in split])

    async def sweep(
        self, names: Collection[str], most: int, seconds: float
    ) -> tuple[list[Change], list[str]]:
        own = {state: own for state, _, own in self._split(names, names)}
        swept = [
            await state.occupancy(self._kind).sweep(own.get(state, ()), most, seconds)
            for state in self._spread.states
        ]
        return _joined([c for c, _ in swept]), _joined([lost for _, lost in swept])

    async def hold(self, changes: Collection[Change], seconds: float) -> list[Change]:
        split = self._split(changes, [change.name for change in changes])
        held = _joined([await one.hold(own, seconds) for _, one, own in split])
        return [change for change in changes if change in held]

    async def told(self, changes: Sequence[Change]) -> list[float | None]:
        places = [self._spread.of(change.name) for change in changes]
        answers = {
            state: iter(await state.occupancy(self._kind).told(own))
            for state, own in _split(changes, places)
        }
        return [next(answers[state]) for state in places]

    async def vacate(self, node: str) -> None:
        for state, name in self._spread.names_of(node):
            await state.occupancy(self._kind).vacate(name)


def _split(some: Iterable[T], states: Iterable[State]) -> list[tuple[State, list[T]]]:
    """Each state with those of `some` that are on it, in their order."""
    found: dict[State, list[T]] = {}
    for one, state in zip(some, states):
        found.setdefault(state, []).append(one)
    return list(found.items())


def _joined(lists: Iterable[list[R]]) -> list[R]:
    return list(itertools.chain.from_iterable(lists))


async def spread() -> SpreadState:
    """That over the servers of the settings."""
    return SpreadState(Node())


def servers_of(state: State) -> list[RedisState]:
    """The states of the servers over which `state` is spread; itself if it is on one."""
    found = state.states if isinstance(state, SpreadState) else [state]
    return [one for one in found if isinstance(one, RedisState)]
