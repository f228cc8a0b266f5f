"""Replicas and diffs as values: hints in any order, and what clients make of the diffs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from phx_protocol.presence.entries import Diff, Entries, Entry, Roster, by_ref
from phx_protocol.presence.replica import MAX_EARLY_HINTS, Hint, Replica
from phx_protocol.state import NOWHERE, Position
from tests.presence.hints import KEYS, client_of, entry, shown
from tests.support.presence_js import Shown

NODES = ["a", "b"]


class World:
    """A state that is changed at random: its snapshots, and the hints of its changes."""

    def __init__(self, chance: random.Random, steps: int, *, restarts: bool) -> None:
        self.chance = chance
        self.position = NOWHERE
        self.entries: Entries = {}
        self.owners: dict[str, str] = {}
        self.hints: list[tuple[int, Hint]] = []  # after which snapshot
        self.snapshots: list[tuple[Position, Entries]] = [(NOWHERE, {})]
        self._made = 0
        self._epochs = 0
        self._away: list[tuple[str, Entry]] = []
        kinds = [self._track, self._untrack, self._update, self._several]
        kinds += [self._again, self._reap, self._replace]
        if restarts:
            kinds += [self._restart]
        for _ in range(steps):
            chance.choice(kinds)()
            self.snapshots.append((self.position, dict(self.entries)))

    def _new(self, node: str, key: str | None = None) -> Entry:
        self._made += 1
        made = entry(self._made, key or self.chance.choice(KEYS))
        self.owners[made.ref] = node
        return made

    def _of(self, node: str) -> list[Entry]:
        return [e for e in self.entries.values() if self.owners[e.ref] == node]

    def _track(self) -> None:
        self._change(Diff([self._new(self.chance.choice(NODES))]))

    def _untrack(self) -> None:
        if self.entries:
            self._change(Diff((), [self.chance.choice(list(self.entries.values()))]))

    def _update(self) -> None:
        if self.entries:
            old = self.chance.choice(list(self.entries.values()))
            self._change(Diff([self._new(self.owners[old.ref], old.key)], [old]))

    def _several(self) -> None:
        node = self.chance.choice(NODES)
        some = [e for e in self._of(node) if self.chance.random() < 0.5]
        joins = [self._new(node) for _ in range(self.chance.randrange(3))]
        self._change(Diff(joins, some))

    def _again(self) -> None:
        """Some of it is so already: its node has mended the state meanwhile."""
        node = self.chance.choice(NODES)
        self._change(Diff([*self._of(node), self._new(node)], [self._new(node)]))

    def _reap(self) -> None:
        """End the lease of a node: no hint is sent."""
        node = self.chance.choice(NODES)
        self._away += [(node, e) for e in self._of(node)]
        self._apply(Diff((), self._of(node)))

    def _replace(self) -> None:
        """Put back what a node lost, under the same refs: no hint is sent."""
        away = [e for _, e in self._away if self.chance.random() < 0.7]
        self._apply(Diff([e for e in away if e.ref not in self.entries]))
        self._away.clear()

    def _restart(self) -> None:
        self._away += [(self.owners[e.ref], e) for e in self.entries.values()]
        self.entries = {}
        self.position = NOWHERE

    def _apply(self, diff: Diff) -> None:
        if self.position == NOWHERE:
            self._epochs += 1
            self.position = Position(f"e{self._epochs}", 0)
        left, came = diff.leaves.keys() & self.entries, diff.joins.keys() - self.entries
        for ref in left:
            del self.entries[ref]
        self.entries.update(diff.joins)
        moved = len(left) + len(came)
        self.position = self.position._replace(n=self.position.n + moved)

    def _change(self, diff: Diff) -> None:
        before = self.position
        self._apply(diff)
        self.hints.append((len(self.snapshots), Hint(before, self.position, diff)))

    def arrivals(self) -> list[Callable[[Replica], Diff]]:
        """Return what arrives at a replica: every hint not at all, once or twice, late or early among the
        others, and readings of the state in between, which never go back."""
        events: list[tuple[float, Any]] = []
        for at, hint in self.hints:
            for _ in range(self.chance.choice([0, 1, 1, 1, 2])):
                delay = self.chance.choice([0, 0, 0.5, 3, 100])
                # a hint may overtake those before it, and arrive before a reading has it
                events.append((at + delay * self.chance.random(), hint))
        done = 0.0
        for at in range(len(self.snapshots)):
            if self.chance.random() < 0.2:
                # a reading takes its time, and one begins when the one before it is done
                if done <= at:
                    done = at + self.chance.choice([0, 1, 3]) * self.chance.random()
                    events.append((done, self.snapshots[at]))
        events.sort(key=lambda event: event[0])
        return [_apply(what) for _, what in events]


def _apply(what: Any) -> Callable[[Replica], Diff]:
    if isinstance(what, Hint):
        return lambda replica: replica.apply(what)
    return lambda replica: replica.read(what[0], dict(what[1]))


def refs(entries: Entries) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for e in entries.values():
        found.setdefault(e.key, set()).add(e.ref)
    return found


def listed(replica: Replica) -> list[str]:
    """The refs of the list, each as often as it is there."""
    found = replica.roster.presences().values()
    return sorted(meta["phx_ref"] for p in found for meta in p["metas"])


def worlds(**kwargs: Any) -> st.SearchStrategy[World]:
    chances = st.integers(0, 2**32).map(random.Random)
    return st.builds(World, chances, st.integers(0, 25), **kwargs)


@settings(max_examples=200, deadline=None)
@given(worlds(restarts=st.booleans()))
def test_after_any_hints_a_reading_corrects_the_replica_and_clients_follow(
    world: World,
) -> None:
    replica = Replica()
    replica.read(*world.snapshots[0])
    client = client_of(replica)
    for arrive in world.arrivals():
        client.take_diff(shown(arrive(replica)))
        assert client.refs() == refs(replica.entries)
        assert listed(replica) == sorted(replica.entries)
    last = world.snapshots[-1]
    client.take_diff(shown(replica.read(last[0], dict(last[1]))))
    assert replica.position == last[0]
    assert replica.entries == last[1]
    assert client.refs() == refs(last[1])


@settings(max_examples=200, deadline=None)
@given(worlds(restarts=st.booleans()))
def test_a_client_that_comes_before_the_first_reading_follows_as_well(
    world: World,
) -> None:
    replica, client = Replica(), Shown()
    position, entries = world.snapshots[-1]
    for arrive in [*world.arrivals(), _apply((position, entries))]:
        is_first = replica.position is None
        client.take_diff(shown(arrive(replica)))
        if is_first and replica.position is not None:
            client.take_state(Roster(replica.entries.values()).presences())
    assert client.refs() == refs(entries)


@settings(max_examples=300, deadline=None)
@given(worlds(restarts=st.booleans()))
def test_a_replica_at_the_position_of_the_state_has_the_same_entries(
    world: World,
) -> None:
    """Where it has come to is all that a heartbeat compares: no gap may hide behind it."""
    replica = Replica()
    replica.read(*world.snapshots[0])
    for arrive in world.arrivals():
        arrive(replica)
    last = world.snapshots[-1]
    if replica.has_come_to(last[0]):
        assert replica.entries == last[1]


def test_a_hint_of_a_store_that_was_lost_leaves_nobody_behind() -> None:
    """It comes late, the store began again and was read: what the hint says is not there any more,
    and a heartbeat that compares positions must notice."""
    replica, ada, bob = Replica(), entry(1, "ada"), entry(2, "bob")
    replica.read(Position("e1", 1), {ada.ref: ada})
    now = Position("e2", 1), {ada.ref: ada}
    replica.read(*now)
    replica.apply(Hint(Position("e1", 1), Position("e1", 2), Diff([bob])))
    assert replica.entries == now[1] or not replica.has_come_to(now[0])
    replica.read(*now)
    assert replica.entries == now[1] and replica.has_come_to(now[0])


def test_a_presence_that_ended_before_the_first_reading_stays_on_no_screen() -> None:
    """The hint that bob left is lost, or his node is dead."""
    replica, client, bob = Replica(), Shown(), entry(1, "bob")
    hint = Hint(Position("e", 0), Position("e", 1), Diff([bob]))
    client.take_diff(shown(replica.apply(hint)))
    news = replica.read(Position("e", 2), {})
    client.take_diff(shown(news))
    client.take_state(Roster(replica.entries.values()).presences())
    assert client.refs() == {}


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=5))
def test_hints_in_any_order_bring_a_replica_to_where_the_state_is(
    order: list[int], again: list[int]
) -> None:
    hints, entries, at = [], {}, Position("e", 0)
    previous: Entry | None = None
    for n in range(8):
        diff = Diff([entry(n, "ada")], [previous] if previous else [])
        after = at._replace(n=at.n + len(diff.joins) + len(diff.leaves))
        hints.append(Hint(at, after, diff))
        at, previous, entries = after, entry(n, "ada"), {f"r{n}": entry(n, "ada")}
    replica = Replica()
    replica.read(Position("e", 0), {})
    client = client_of(replica)
    for n in [*order, *again]:
        client.take_diff(shown(replica.apply(hints[n])))
    assert (replica.position, replica.entries) == (at, entries)
    assert client.refs() == {"ada": {"r7"}}


def test_a_hint_that_was_read_already_is_no_news() -> None:
    replica, ada = Replica(), entry(1, "ada")
    replica.read(Position("e", 1), {ada.ref: ada})
    assert not replica.apply(Hint(Position("e", 0), Position("e", 1), Diff([ada])))
    assert replica.entries == {ada.ref: ada}


def test_a_reading_that_is_older_than_a_hint_takes_nothing_back() -> None:
    replica, ada, bob = Replica(), entry(1, "ada"), entry(2, "bob")
    replica.read(Position("e", 0), {})
    # the hint of ada's join is lost
    replica.apply(Hint(Position("e", 1), Position("e", 2), Diff([bob])))
    news = replica.read(Position("e", 1), {ada.ref: ada})
    assert (list(news.joins), list(news.leaves)) == ([ada.ref], [])
    assert replica.entries == by_ref([ada, bob])
    assert replica.position == Position("e", 2)
    assert not replica.read(Position("e", 1), {ada.ref: ada})


def test_a_change_that_the_state_did_not_accept_is_corrected_by_a_reading() -> None:
    replica, ada, bob = Replica(), entry(1, "ada"), entry(2, "bob")
    replica.read(Position("e", 1), {ada.ref: ada})
    client = client_of(replica)
    client.take_diff(shown(replica.apply_unseen(Diff([bob], [ada]))))
    assert client.refs() == {"bob": {"r2"}}
    client.take_diff(shown(replica.read(Position("e2", 7), {ada.ref: ada})))
    assert client.refs() == {"ada": {"r1"}} == refs(replica.entries)


def test_a_replica_is_lost_when_too_much_came_early() -> None:
    replica = Replica()
    replica.read(Position("e", 0), {})
    for n in range(1, MAX_EARLY_HINTS + 1):
        hint = Hint(Position("e", n), Position("e", n + 1), Diff([entry(n, "ada")]))
        replica.apply(hint)
        assert not replica.is_lost
    replica.apply(Hint(Position("e", 500), Position("e", 501), Diff([entry(0, "b")])))
    assert replica.is_lost
    everything = by_ref(entry(n, "ada") for n in range(600))
    replica.read(Position("e", 600), everything)
    assert not replica.is_lost
