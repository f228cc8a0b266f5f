"""After any steps in any order, an occupancy does what the docstrings of ``Occupancy`` say.

The model knows nothing of scripts and keys. No time passes: what is to be told later is told never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from phx_protocol.state import State
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.occupancy import KINDS, TOPIC, USER, Change, Mark
from tests.state.test_model import IMMORTAL, runs
from tests.support.redis_cluster import RedisCluster
from tests.support.spread import SpreadState, servers_of, shards, spread
from tests.support.state import connected, end_lease, everywhere, forget

T = TypeVar("T")

LATER = 1_000_000.0

# names that begin with each other, and such as would break a key, a line or a word
NODES = ["a", "ab", "b"]
NAMES = ["", "7", "77", "room 1\nü☃", "- 1"]

nodes = st.sampled_from(NODES)
names = st.sampled_from(NAMES)
seconds = st.sampled_from([0.0, LATER])
marks = st.lists(
    st.builds(Mark, names, st.booleans(), st.sampled_from([False, False, True])),
    unique_by=lambda mark: mark.name,
    max_size=4,
)
some = st.lists(names, unique=True, max_size=4)


class Name:
    """What the model knows of a name."""

    def __init__(self) -> None:
        self.is_known = False  # False: nothing but when it was seen
        self.nodes: set[str] = set()
        self.was_told = False
        self.delay = 0.0
        self.has_left = False
        self.left_for = 0.0
        self.claimed: Change | None = None
        self.is_held = False

    @property
    def is_here(self) -> bool:
        return bool(self.nodes)

    @property
    def wait(self) -> float | None:
        """The seconds until its next change is due; None if there is none, or somebody has it."""
        if self.claimed is not None or self.is_here == self.was_told:
            return None
        return 0.0 if self.is_here else self.delay

    @property
    def is_due(self) -> bool:
        return not self.is_held if self.claimed is not None else self.wait == 0.0

    def note(self) -> None:
        self.is_known = self.is_here or self.was_told or self.claimed is not None


class OccupancyMachine(RuleBasedStateMachine):
    """Does the same to an occupancy and to the model."""

    claims: Bundle[Change] = Bundle("claims")
    state: State

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.kind = kind
        self.names = {name: Name() for name in NAMES}
        self.ids: set[str] = set()

    @property
    def occupancy(self) -> Any:
        return self.state.occupancy(self.kind)

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def teardown(self) -> None:
        self.run(self.state.close())
        self.loop.close()

    @rule(node=nodes, marks=marks, delay=seconds)
    def mark(self, node: str, marks: list[Mark], delay: float) -> None:
        found = self.run(self.occupancy.mark(node, marks, delay))
        wanted = []
        for mark in marks:
            name = self.names[mark.name]
            name.delay = delay
            was_here = name.is_here
            if not name.is_known:  # it is lost, unless it has left
                name.was_told = mark.was_told and not name.has_left
                was_here = name.was_told
            (name.nodes.add if mark.is_here else name.nodes.discard)(node)
            name.has_left |= was_here and not name.is_here
            name.note()
            wanted.append(name.wait)
        assert found == [about(wait) for wait in wanted]

    @rule(target=claims, names=some, seconds=seconds)
    def claim(self, names: list[str], seconds: float) -> Any:
        due = {name for name in names if self.names[name].is_due}
        found = self.run(self.occupancy.claim(names, seconds))
        assert {change.name for change in found} == due
        return multiple(*self.claimed(found, seconds))

    @rule(target=claims, most=st.sampled_from([0, 200]), seconds=seconds)
    def sweep(self, most: int, seconds: float) -> Any:
        due = {name for name, known in self.names.items() if known.is_due}
        known = [name for name, known in self.names.items() if known.is_known]
        found, lost = self.run(self.occupancy.sweep(known, most, seconds))
        assert {change.name for change in found} == (due if most else set())
        assert lost == []
        return multiple(*self.claimed(found, seconds))

    def claimed(self, found: list[Change], seconds: float) -> list[Change]:
        for change in found:
            name = self.names[change.name]
            if name.claimed is None:
                assert change.id not in self.ids
                assert change.is_here == name.is_here
                assert change.at == pytest.approx(time.time(), abs=60)
                self.ids.add(change.id)
                name.claimed = change
            assert change == name.claimed
            name.is_held = seconds > 0
        return found

    @rule(changes=st.lists(claims, max_size=3), seconds=seconds)
    def hold(self, changes: list[Change], seconds: float) -> None:
        ours = [c for c in changes if self.names[c.name].claimed == c]
        assert self.run(self.occupancy.hold(changes, seconds)) == ours
        for change in ours:
            self.names[change.name].is_held = seconds > 0

    @rule(changes=st.lists(claims, max_size=3))
    def told(self, changes: list[Change]) -> None:
        found = self.run(self.occupancy.told(changes))
        wanted = []
        for change in changes:
            name = self.names[change.name]
            if name.claimed != change:
                wanted.append(None)
                continue
            name.was_told, name.claimed, name.is_held = change.is_here, None, False
            name.note()
            wanted.append(name.wait)
        assert found == [about(wait) for wait in wanted]

    @rule(node=nodes, is_dead=st.booleans())
    def vacate(self, node: str, is_dead: bool) -> None:
        if is_dead:
            self.run(self.state.beat(node, {}, first=True))
            self.run(end_lease(self.state, node))
            self.run(self.state.reap())
        if not is_dead:
            self.run(self.state.leave(node))
        for name in self.names.values():
            # the others never beat: nobody knows them, so they are as good as dead
            gone = set(NODES) if is_dead else {node}
            name.has_left |= bool(name.nodes) and not name.nodes - gone
            name.nodes -= gone
            name.note()

    @rule(sure=st.sampled_from([True, False, False]))
    def everything_is_lost(self, sure: bool) -> None:
        if sure:
            self.run(self.state.lost())
            self.names = {name: Name() for name in NAMES}

    @invariant()
    def who_is_here_is_seen(self) -> None:
        now = time.time()
        asked = [*NAMES, "never", NAMES[0]]
        for delay in (0.0, LATER):
            for name, seen in zip(asked, self.run(self.occupancy.look(asked, delay))):
                known = self.names.get(name, Name())
                is_away = known.has_left and delay == 0
                assert seen.is_here == (known.is_here or known.has_left and not is_away)
                if known.is_here or known.has_left:
                    assert seen.at == pytest.approx(now, abs=60)
                else:
                    assert seen.at is None


class MemoryMachine(OccupancyMachine):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.state = MemoryState()


class RedisMachine(OccupancyMachine):
    def __init__(self, kind: str, state: State) -> None:
        super().__init__(kind)
        self.state = state

    @invariant()
    def every_key_expires(self) -> None:
        for one in servers_of(self.state):
            assert not any(everywhere(one, IMMORTAL, one._prefix))

    def teardown(self) -> None:
        forget(self.state)
        super().teardown()


class SpreadMachine(RedisMachine):
    """On three servers, of which one may lose what it has."""

    state: SpreadState

    def __init__(self, kind: str) -> None:
        super().__init__(kind, asyncio.run(spread()))

    @rule(place=st.sampled_from([0, 1, 2]))
    def a_server_loses_what_it_has(self, place: int) -> None:
        lost = self.state.states[place]
        self.run(lost.lost())
        for name in NAMES:
            if self.state.of(name) is lost:
                self.names[name] = Name()


def about(wait: float | None) -> Any:
    return None if wait is None else pytest.approx(wait, abs=60)


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_does_what_the_model_does(kind: str) -> None:
    run_state_machine_as_test(lambda: MemoryMachine(kind), settings=runs(100))


@pytest.mark.parametrize("kind", [USER, pytest.param(TOPIC, marks=pytest.mark.big)])
def test_redis_does_what_the_model_does(kind: str, redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: RedisMachine(kind, connected(redis_url)), settings=runs(40)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_three_servers_do_what_the_model_does(kind: str, tmp_path: Path) -> None:
    with shards(tmp_path, NAMES):
        run_state_machine_as_test(lambda: SpreadMachine(kind), settings=runs(15))


@pytest.mark.big
@pytest.mark.parametrize("kind", KINDS)
def test_redis_does_what_the_model_does_for_long(kind: str, redis_url: str) -> None:
    machine = runs(250, 60)
    run_state_machine_as_test(
        lambda: RedisMachine(kind, connected(redis_url)), settings=machine
    )


@pytest.mark.big
@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_does_what_the_model_does(kind: str, cluster: RedisCluster) -> None:
    machine = runs(40)
    run_state_machine_as_test(
        lambda: RedisMachine(kind, connected(cluster.url)), settings=machine
    )


@pytest.mark.big
@pytest.mark.parametrize("kind", KINDS)
def test_three_servers_do_what_the_model_does_for_long(
    kind: str, tmp_path: Path
) -> None:
    with shards(tmp_path, NAMES):
        machine = runs(100, 60)
        run_state_machine_as_test(lambda: SpreadMachine(kind), settings=machine)
