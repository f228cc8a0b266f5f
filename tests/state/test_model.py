"""After any steps in any order, a state does what the docstrings of ``State`` say.

The model is plain dicts: it knows nothing of locks, scripts and keys. Time passes for leases only,
and only when the machine says so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec import Raw

from phx_protocol.state import Had, Item, Kept, Position, Row, State
from phx_protocol.state.base import NOWHERE, STEP, waiting
from phx_protocol.state.memory import MemoryState
from tests.support.redis_cluster import RedisCluster
from tests.support.spread import SpreadState, servers_of, shards, spread
from tests.support.state import (
    admin,
    connected,
    end_lease,
    everywhere,
    forget,
    key,
    what,
)

T = TypeVar("T")

LEASE = 40.0
#: a lease that was just renewed outlasts one pause and not two; a slow machine has 10 s of slack
PAUSE = 20.0
#: history that grows too old is not for the model
TTL = 100_000.0

# names that begin with each other, and such as would break a key or a line
NODE_NAMES = ["a", "ab", "b"]
GROUP_NAMES = ["", "lobby\nü"]
TOPICS_OF_GROUPS = ["", "ü"]
TOPIC_NAMES = ["room:1", "room:1\x00☃"]
REF_NAMES = ["1", "12", "b\n1", "é"]

#: until when entries may wait, by the wall clock: nothing of this test lasts so long
OVER, SOON, LATER = 1_000_000_000.0, 4_000_000_000.0, 4_000_000_001.0

nodes = st.sampled_from(NODE_NAMES)
untils = st.sampled_from([OVER, SOON, LATER])
groups = st.sampled_from(GROUP_NAMES)
topics = st.sampled_from(TOPIC_NAMES)
refs = st.sampled_from(REF_NAMES)
entries = st.dictionaries(
    refs, st.sampled_from([b"", b"one", b"\n\xff\n", b"b\n"]), max_size=3
)
#: so many that they are put, dropped and read in several steps, by nodes that take them from each other
crowds = st.builds(
    lambda begin, count: {f"{i:x}": b"" for i in range(begin, begin + count)},
    st.sampled_from([0, 400]),
    st.sampled_from([STEP, STEP + 1, 2 * STEP + 3]),
)
abouts = st.fixed_dictionaries({"pid": st.integers(1, 3), "name": st.just("ü\n")})
counts = st.dictionaries(topics, st.integers(0, 2), min_size=1)
items = st.builds(
    Item,
    topic=topics,
    id=st.sampled_from("stuvwxyz"),
    event=st.sampled_from(["new", "ü\n"]),
    payload=st.sampled_from(
        [Raw(b"{}"), Raw(b'{"a": "\xc3\xbc"}'), b"\x00\r\n", b"{}"]
    ),
    sender=st.sampled_from([None, "sender"]),
    size=st.integers(1, 4),
    ttl=st.just(TTL),
    max_bytes=st.sampled_from([4, 9, 1000]),
    row=st.none() | st.builds(Row, st.sampled_from(["one", "two"]), st.integers(1, 9)),
)


class Place:
    """A sequence with a position. Its epoch is the first one that is seen."""

    def __init__(self) -> None:
        self.epoch = ""
        self.n = 0


class Group(Place):
    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, tuple[str, bytes]] = {}

    def drop(self, *refs: str) -> None:
        for ref in refs:
            if ref in self.entries:
                del self.entries[ref]
                self.n += 1

    def put(self, node: str, entries: dict[str, bytes]) -> None:
        for ref, entry in entries.items():
            if ref not in self.entries:
                self.n += 1
            self.entries[ref] = (node, entry)

    def owned_by(self, node: str) -> list[str]:
        return [ref for ref, (owner, _) in self.entries.items() if owner == node]


class Topic(Place):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self.rows: dict[str, int] = {}

    def append(self, item: Item) -> int:
        if item.row is not None:
            if self.rows.get(item.row.source, 0) >= item.row.n:
                return self.n
            self.rows[item.row.source] = item.row.n
        self.n += 1
        kept = Kept(self.n, item.id, item.event, item.payload, item.sender, 0.0)
        self.kept = [*self.kept, kept][-item.size :]
        while sum(kept.bytes for kept in self.kept) > item.max_bytes:
            del self.kept[0]
        return self.n

    def since(self, n: int, partial: bool, limit: int | None = None) -> list[Kept]:
        found = [kept for kept in self.kept if kept.n > n]
        if limit is not None and sum(kept.bytes for kept in found) > limit:
            return []
        return found if partial or len(found) == self.n - n else []

    def rewind(self, n: int, count: int | None, limit: int) -> int:
        """All ways to begin are tried, the earliest first."""
        for first in range(n):
            found = [kept for kept in self.kept if first < kept.n <= n]
            is_whole = [kept.n for kept in found] == list(range(first + 1, n + 1))
            if is_whole and (count is None or len(found) <= count):
                if sum(kept.bytes for kept in found) <= limit:
                    return first
        return n


class Node:
    def __init__(self) -> None:
        self.until = 0.0
        self.about: dict[str, Any] = {}
        self.counts: dict[str, int] = {}


class StateMachine(RuleBasedStateMachine):
    """Does the same to a state and to the model."""

    state: State

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, Group] = {}
        self.topics: dict[str, Topic] = {}
        self.epochs: set[str] = set()

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def teardown(self) -> None:
        self.run(self.state.close())
        self.loop.close()

    # --------------------------------------------------------------- the model

    def is_at(
        self, position: Position, place: Place | None, n: int | None = None
    ) -> None:
        """`position` is where the model is, and its epoch is new if the place is."""
        if place is None:
            assert position == NOWHERE
            return
        if not place.epoch:
            assert position.epoch[0].isalpha() and position.epoch not in self.epochs
            self.epochs.add(position.epoch)
            place.epoch = position.epoch
        assert position == (place.epoch, place.n if n is None else n)

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())

    def bury(self, name: str) -> None:
        self.nodes.pop(name, None)
        for group in self.groups.values():
            group.drop(*group.owned_by(name))

    def alive(self) -> dict[str, Node]:
        return {name: n for name, n in self.nodes.items() if n.until > self.now}

    # ------------------------------------------------------------------- nodes

    @initialize(there=st.lists(st.tuples(nodes, counts, groups, entries), max_size=4))
    def some_are_there_already(self, there: list[Any]) -> None:
        for node, counts, group, entries in there:
            self.beat(node, {}, True)
            self.count(node, counts)
            self.change(group, node, entries, [])

    @rule(name=nodes, about=abouts, first=st.booleans())
    def beat(self, name: str, about: dict[str, Any], first: bool) -> None:
        if name in self.nodes:
            may = self.nodes[name].until > self.now
        else:
            may = first
        assert self.run(self.state.beat(name, about, first=first)) is may
        if may:
            node = self.nodes.setdefault(name, Node())
            node.until = self.now + self.state.silence
            node.about = about

    @rule(name=nodes)
    def the_lease_of_a_node_is_over(self, name: str) -> None:
        self.run(end_lease(self.state, name))
        if name in self.nodes:
            self.nodes[name].until = 0.0

    @rule()
    def time_passes(self) -> None:
        self.now += PAUSE
        self.pause()

    def pause(self) -> None:
        """The state's time passes, too."""
        raise NotImplementedError

    @rule()
    def reap(self) -> None:
        owners = {o for g in self.groups.values() for o, _ in g.entries.values()}
        wait = {waiting(until) for until in (SOON, LATER)}
        dead = {*self.nodes, *owners} - self.alive().keys() - wait
        for one in servers_of(self.state):
            one._owners = None  # who came after the latest beat is for the next one
        # more if all that a node had was dropped by others
        assert self.run(self.state.reap()) >= len(dead)
        for name in dead:
            self.bury(name)

    @rule(name=nodes)
    def leave(self, name: str) -> None:
        self.run(self.state.leave(name))
        self.bury(name)

    @rule(name=nodes, counts=counts)
    def count(self, name: str, counts: dict[str, int]) -> None:
        counted = self.run(self.state.count(name, counts))
        if node := self.nodes.get(name):
            both = {**node.counts, **counts}
            node.counts = {topic: count for topic, count in both.items() if count}
        assert counted == (len(node.counts) if node else 0)

    # --------------------------------------------------------------- presences

    @rule(name=groups, node=nodes, puts=entries, drops=st.lists(refs, max_size=3))
    def change(
        self, name: str, node: str, puts: dict[str, bytes], drops: list[str]
    ) -> None:
        before, after = self.run(self.state.change(name, node, puts, drops))
        self.is_at(before, self.groups.get(name))
        group = self.group(name)
        group.drop(*drops)
        group.put(node, puts)
        self.is_at(after, group)

    @rule(name=groups, node=nodes, entries=st.one_of(entries, entries, crowds))
    def replace(self, name: str, node: str, entries: dict[str, bytes]) -> None:
        position = self.run(self.state.replace(name, node, entries))
        group = self.group(name)
        group.drop(*(ref for ref in group.owned_by(node) if ref not in entries))
        group.put(node, entries)
        self.is_at(position, group)

    @rule(name=groups, node=nodes, until=untils, entries=entries, puts=st.booleans())
    def wait(
        self,
        name: str,
        node: str,
        until: float,
        entries: dict[str, bytes],
        puts: bool,
    ) -> None:
        waits = self.state.wait(name, node, until, entries, puts=puts)
        before, after = self.run(waits)
        self.is_at(before, self.groups.get(name))
        group = self.group(name)
        for ref, entry in entries.items():
            if group.entries.get(ref, (node if puts else "",))[0] == node:
                group.put(waiting(until), {ref: entry})
        self.is_at(after, group)

    @rule(name=groups, node=nodes, refs=st.lists(refs, unique=True, max_size=4))
    def take(self, name: str, node: str, refs: list[str]) -> None:
        taken = self.run(self.state.take(name, node, refs))
        group = self.groups.get(name, Group())
        wait = [
            (owner, place, ref)
            for place, ref in enumerate(refs)
            if ref in group.entries
            and (owner := group.entries[ref][0]) in (waiting(SOON), waiting(LATER))
        ]
        mine = [r for r in refs if group.entries.get(r, ("",))[0] == node]
        assert taken == ((mine or [min(wait)[2]])[0] if mine or wait else None)
        if taken is not None:
            group.put(node, {taken: group.entries[taken][1]})

    @rule(name=groups, until=untils, refs=st.lists(refs, unique=True, max_size=4))
    def end_wait(self, name: str, until: float, refs: list[str]) -> None:
        before, after = self.run(self.state.end_wait(name, until, refs))
        self.is_at(before, self.groups.get(name))
        group = self.group(name)
        for ref in refs:
            if group.entries.get(ref, ("",))[0] == waiting(until):
                group.drop(ref)
        self.is_at(after, group)

    # ----------------------------------------------------------------- history

    @rule(items=st.lists(items, max_size=4))
    def append(self, items: list[Item]) -> None:
        items = [item._replace(id=secrets.token_hex(8)) for item in items]
        positions = self.run(self.state.append(items))
        assert len(positions) == len(items)
        for item, position in zip(items, positions):
            topic = self.topics.setdefault(item.topic, Topic())
            before = topic.n
            self.is_at(position, topic, topic.append(item))
            assert isinstance(position, Had) == (topic.n == before)

    @rule(
        name=topics,
        n=st.integers(0, 12),
        partial=st.booleans(),
        limit=st.sampled_from([None, None, 6, 20]),
    )
    def since(self, name: str, n: int, partial: bool, limit: int | None = None) -> None:
        asked = self.state.since(name, n, TTL, partial=partial, limit=limit)
        position, found = self.run(asked)
        topic = self.topics.get(name)
        self.is_at(position, topic)
        wanted = topic.since(n, partial, limit) if topic else []
        assert what(found) == what(wanted)
        assert all(type(a.payload) is type(b.payload) for a, b in zip(found, wanted))

    @rule(name=topics, back=st.integers(0, 4), partial=st.booleans())
    def since_a_moment_ago(self, name: str, back: int, partial: bool) -> None:
        n = self.topics[name].n if name in self.topics else 0
        self.since(name, max(n - back, 0), partial)

    @rule(
        name=topics,
        back=st.integers(-1, 4),
        count=st.sampled_from([None, 0, 1, 2, 3]),
        seconds=st.sampled_from([None, TTL]),
        limit=st.sampled_from([0, 5, 6, 12, 20, 1000]),
    )
    def rewind(
        self,
        name: str,
        back: int,
        count: int | None,
        seconds: float | None,
        limit: int,
    ) -> None:
        topic = self.topics.get(name)
        n = max((topic.n if topic else 0) - back, 0)
        how: Any = {"count": count, "seconds": seconds, "limit": limit}
        position, first = self.run(self.state.rewind(name, n, TTL, **how))
        self.is_at(position, topic)
        assert first == (topic.rewind(n, count, limit) if topic else n)

    @rule(name=topics)
    def kept(self, name: str) -> None:
        position, count = self.run(self.state.kept(name, TTL))
        topic = self.topics.get(name)
        self.is_at(position, topic)
        assert count == (len(topic.kept) if topic else 0)

    @rule(name=topics)
    def open(self, name: str) -> None:
        position = self.run(self.state.open(name, TTL))
        self.is_at(position, self.topics.setdefault(name, Topic()))

    @rule(name=topics)
    def reset(self, name: str) -> None:
        self.run(self.state.reset(name))
        self.topics.pop(name, None)

    # ------------------------------------------------------------------- always

    @rule(sure=st.sampled_from([True, False, False]))
    def everything_is_lost(self, sure: bool) -> None:
        if sure:
            self.lose_everything()
            self.nodes.clear()
            self.groups.clear()
            self.topics.clear()

    def lose_everything(self) -> None:
        raise NotImplementedError

    @invariant()
    def all_live_nodes_are_seen(self) -> None:
        alive = self.alive()
        found = {name: node.about for name, node in alive.items()}
        assert self.run(self.state.nodes()) == found
        counts: dict[str, dict[str, int]] = {}
        for name, node in alive.items():
            for topic, count in node.counts.items():
                counts.setdefault(topic, {})[name] = count
        assert self.run(self.state.counts()) == counts

    @invariant()
    def groups_are_as_in_the_model(self) -> None:
        asked = [*GROUP_NAMES, "never", GROUP_NAMES[0]]
        for name, position in zip(asked, self.run(self.state.positions(asked))):
            self.is_at(position, self.groups.get(name))
        for name in GROUP_NAMES:
            group = self.groups.get(name)
            position, found = self.run(self.state.entries(name))
            self.is_at(position, group)
            wanted = group.entries.items() if group else ()
            assert found == {ref: entry for ref, (_, entry) in wanted}

    @invariant()
    def histories_are_as_in_the_model(self) -> None:
        asked = {name: TTL for name in [*TOPIC_NAMES, "never"]}
        for name, position in zip(asked, self.run(self.state.heads(asked))):
            self.is_at(position, self.topics.get(name))
        for name in TOPIC_NAMES:
            self.since(name, 0, True)


class MemoryMachine(StateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = MemoryState(LEASE, clock=lambda: self.now)

    def pause(self) -> None:
        pass  # it looks at the same clock

    def lose_everything(self) -> None:
        self.state._nodes.clear()
        self.state._groups.clear()
        self.state._topics.clear()


IMMORTAL = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  if redis.call('PTTL', key) < 0 then found[#found + 1] = key end
end
return found
"""


class RedisMachine(StateMachine):
    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state

    @classmethod
    def on(cls, url: str) -> RedisMachine:
        """On a server, or a cluster."""
        return cls(connected(url, lease=LEASE))

    def pause(self) -> None:
        """Redis has the time of day: leases end earlier instead."""
        for one in servers_of(self.state):
            leases = key(one, "leases")
            for name in admin(one).zrange(leases, 0, -1):
                admin(one).zincrby(leases, -PAUSE * 1000, name)

    def lose_everything(self) -> None:
        forget(self.state)

    @invariant()
    def every_key_expires(self) -> None:
        for one in servers_of(self.state):
            assert not any(everywhere(one, IMMORTAL, one._prefix))

    def teardown(self) -> None:
        self.lose_everything()
        super().teardown()


class SpreadMachine(RedisMachine):
    """On three servers, of which one may lose what it has."""

    state: SpreadState

    def __init__(self) -> None:
        super().__init__(asyncio.run(spread()))

    @rule(place=st.sampled_from([0, 1, 2]))
    def a_server_loses_what_it_has(self, place: int) -> None:
        self.reap()
        lost = self.state.states[place]
        forget(lost)
        for topic in [t for t in self.topics if self.state.of(t) is lost]:
            del self.topics[topic]
        for group in [g for g in self.groups if self.state.of_group(g) is lost]:
            del self.groups[group]
        for name, node in self.nodes.items():
            self.run(self.state.lose(place, name, node.about))
            self.beat(name, node.about, False)
            self.count(name, node.counts)


def runs(examples: int, steps: int = 30) -> settings:
    """The same examples every time."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


def test_the_memory_does_what_the_model_does() -> None:
    run_state_machine_as_test(MemoryMachine, settings=runs(100))


def test_redis_does_what_the_model_does(redis_url: str) -> None:
    run_state_machine_as_test(lambda: RedisMachine.on(redis_url), settings=runs(40))


def test_a_cluster_does_what_the_model_does(cluster: RedisCluster) -> None:
    run_state_machine_as_test(lambda: RedisMachine.on(cluster.url), settings=runs(10))


def test_three_servers_do_what_the_model_does(tmp_path: Path) -> None:
    with shards(tmp_path, TOPIC_NAMES, TOPICS_OF_GROUPS, lease=LEASE):
        run_state_machine_as_test(SpreadMachine, settings=runs(20))


@pytest.mark.big
def test_the_memory_does_what_the_model_does_for_long() -> None:
    run_state_machine_as_test(MemoryMachine, settings=runs(1000, 60))


@pytest.mark.big
def test_redis_does_what_the_model_does_for_long(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: RedisMachine.on(redis_url), settings=runs(250, 60)
    )


@pytest.mark.big
def test_a_cluster_does_what_the_model_does_for_long(cluster: RedisCluster) -> None:
    machine = runs(100, 60)
    run_state_machine_as_test(lambda: RedisMachine.on(cluster.url), settings=machine)


@pytest.mark.big
def test_three_servers_do_what_the_model_does_for_long(tmp_path: Path) -> None:
    with shards(tmp_path, TOPIC_NAMES, TOPICS_OF_GROUPS, lease=LEASE):
        run_state_machine_as_test(SpreadMachine, settings=runs(100, 60))
