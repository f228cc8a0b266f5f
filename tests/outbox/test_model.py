"""Transactions, relays that die at any moment, stall and lose their leases, answers that are lost: what is
committed arrives, what is rolled back does not, and each topic hears it in the order that is promised.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from phx_protocol import outbox
from phx_protocol.exceptions import BroadcastError, StateError
from phx_protocol.node.node import Node, get_node
from phx_protocol.outbox.leases import Leases
from phx_protocol.outbox.models import Message, Partition, Relay
from phx_protocol.outbox.rows import Batch, Rows
from phx_protocol.outbox.sending import Outcome, Sender
from phx_protocol.state import factory

from .hearing import Hearing

T = TypeVar("T")
TOPICS = ["room:a", "room:b", "kept:a", "kept:b", "partly:a"]
EVENTS = ["kept", "not kept"]
WRITERS = [0, 1, 2]
RELAYS = [0, 1]

writers, relays = st.sampled_from(WRITERS), st.sampled_from(RELAYS)
topics, events = st.sampled_from(TOPICS), st.sampled_from(EVENTS)


class Written:
    """A row: its transaction, and its place in it."""

    def __init__(self, n: int, topic: str, event: str, begun: int) -> None:
        self.n, self.topic, self.event, self.begun = n, topic, event, begun
        self.committed: int | None = None  # when, if it is


class Writer:
    """A connection in a thread, in which a transaction may be open."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1)
        self._open: Any = None
        self.begun = 0
        self.rows: list[Written] = []

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def _do(self, call: Any, *args: Any) -> None:
        self._thread.submit(call, *args).result(30)

    def begin(self, now: int) -> None:
        self._open = transaction.atomic(using=self.database)
        self._do(self._open.__enter__)
        self.begun, self.rows = now, []

    def write(self, row: Written) -> None:
        send, payload = outbox.broadcast, {"n": row.n}
        self._do(lambda: send(row.topic, row.event, payload, using=self.database))
        self.rows.append(row)

    def end(self, now: int | None) -> None:
        """Commit at `now`, or roll back."""
        error: Any = (None, None, None)
        if now is None:
            error = RuntimeError, RuntimeError(), None
        self._do(self._open.__exit__, *error)
        self._open = None
        for row in self.rows:
            row.committed = now

    def close(self) -> None:
        if self.is_open:
            self.end(None)
        self._do(lambda: connections[self.database].close())
        self._thread.shutdown()


class Sending:
    """A relay without its loop: it does one step after the other, as the test says."""

    def __init__(self, database: str, node: Node) -> None:
        self.leases = Leases(database, 600)
        self.rows = Rows(self.leases)
        self.sender = Sender(node)
        self.last = Outcome()
        self.batch = Batch([], frozenset())

    def read(self, most: int) -> None:
        last = self.last
        held = self.leases.held
        self.batch = self.rows.next(held, last.sent, last.aside, most)
        self.last = Outcome()

    async def send(self) -> None:
        # no deadline: it may have stalled after it looked
        self.last = await self.sender.send(self.batch.rows, time.monotonic() + 600)
        self.batch = Batch([], frozenset())


class Faults:
    """Steps of the state and of the layer that fail, before or after they were done."""

    def __init__(self) -> None:
        self.plan: list[str] = []

    def next(self) -> str:
        return self.plan.pop(0) if self.plan else ""

    def on_state(self, append: Any) -> Any:
        async def failing(items: Any) -> Any:
            fault = self.next()
            if fault == "before":
                raise StateError("away")
            found = await append(items)
            if fault == "after":
                raise StateError("no answer")
            return found

        return failing

    def on_layer(self, publish: Any) -> Any:
        async def failing(broadcasts: Any) -> Any:
            fault = self.next()
            if fault:
                raise BroadcastError("away")
            await publish(broadcasts)

        return failing


class OutboxModel(RuleBasedStateMachine):
    database: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = itertools.count(1)
        self.written: dict[int, Written] = {}
        self.numbers = itertools.count(1)
        self.writers = [Writer(self.database) for _ in WRITERS]
        for model in (Message, Partition, Relay):
            model._default_manager.using(self.database).all().delete()  # type: ignore[attr-defined]
        self.has_one_writer = connections[self.database].vendor == "sqlite"
        self.faults = Faults()
        self.run(self._begin())

    async def _begin(self) -> None:
        factory._memories.clear()
        node = self.node = get_node()
        state: Any = node.heartbeat.state
        state.append = self.faults.on_state(state.append)
        link: Any = node.link
        link.publish_together = self.faults.on_layer(link.publish_together)
        self.hearing = await Hearing.of(node, *TOPICS)
        self.relays = [Sending(self.database, self.node) for _ in RELAYS]

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    # ------------------------------------------------------------- transactions

    @property
    def may_write(self) -> bool:
        """On SQLite nobody writes while a transaction is open."""
        return not (self.has_one_writer and any(w.is_open for w in self.writers))

    @rule(which=writers)
    def begin(self, which: int) -> None:
        if not self.writers[which].is_open and self.may_write:
            self.writers[which].begin(next(self.clock))

    @rule(which=writers, topic=topics, event=events)
    def write(self, which: int, topic: str, event: str) -> None:
        writer = self.writers[which]
        if not writer.is_open:
            self.begin(which)
        if writer.is_open:
            n = next(self.numbers)
            row = self.written[n] = Written(n, topic, event, writer.begun)
            writer.write(row)

    @rule(which=writers, is_kept=st.integers(0, 3))
    def end(self, which: int, is_kept: int) -> None:
        if self.writers[which].is_open:
            self.writers[which].end(next(self.clock) if is_kept else None)

    # ------------------------------------------------------------------- relays

    @precondition(lambda self: self.may_write)
    @rule(which=relays)
    def renew(self, which: int) -> None:
        self.relays[which].leases.renew()

    @precondition(lambda self: self.may_write)
    @rule(which=relays, most=st.sampled_from([1, 2, 16, 1000]))
    def read(self, which: int, most: int) -> None:
        relay = self.relays[which]
        if not relay.batch.rows:
            relay.leases.renew()
            relay.read(most)

    @rule(which=relays)
    def send(self, which: int) -> None:
        """It may have stalled meanwhile, and have lost its leases."""
        self.run(self.relays[which].send())

    @rule(which=relays)
    def die(self, which: int) -> None:
        self.relays[which] = Sending(self.database, self.node)

    @precondition(lambda self: self.may_write)
    @rule()
    def time_passes(self) -> None:
        """All leases are over."""
        past = "2020-01-01T00:00:00Z"
        for model in (Partition, Relay):
            rows: Any = model._default_manager.using(self.database)  # type: ignore[attr-defined]
            rows.update(until=past)

    @rule(plan=st.lists(st.sampled_from(["before", "after", ""]), max_size=3))
    def fail(self, plan: list[str]) -> None:
        self.faults.plan = plan

    # ------------------------------------------------------------------ the end

    def teardown(self) -> None:
        try:
            for writer in self.writers:
                writer.close()
            self.faults.plan = []
            self.time_passes()
            self.drain()
            self.check()
        finally:
            self.run(self._close())
            self.loop.close()

    def drain(self) -> None:
        last = Sending(self.database, self.node)
        last.leases.renew(wants_all=True)
        last.read(1000)
        while last.batch.rows:
            self.run(last.send())
            assert not last.last.unsent and not last.last.aside
            last.read(1000)
        assert not Message._default_manager.using(self.database).count()
        committed = self.committed()
        # what another relay has appended is read from the history
        self.run(self.hearing.until(lambda: committed <= {*self.hearing.numbers()}, 20))

    async def _close(self) -> None:
        self.hearing.close()
        await get_node().close()

    def committed(self) -> set[int]:
        return {n for n, row in self.written.items() if row.committed is not None}

    def check(self) -> None:
        heard = self.hearing.numbers()
        assert {*heard} == self.committed()
        for n, count in Counter(heard).items():
            row = self.written[n]
            is_kept = row.topic.startswith("kept") or (
                row.topic.startswith("partly") and row.event == "kept"
            )
            assert count == 1 or not is_kept, (n, heard)
        first = {n: heard.index(n) for n in {*heard}}
        for a, b in itertools.combinations(sorted(first), 2):
            if self.must_be_before(self.written[a], self.written[b]):
                assert first[a] < first[b], (a, b, heard)
            if self.must_be_before(self.written[b], self.written[a]):
                assert first[b] < first[a], (a, b, heard)

    @staticmethod
    def must_be_before(a: Written, b: Written) -> bool:
        """`a` was committed before the transaction of `b` began; or both are of one, and `a` is the first."""
        if a.topic != b.topic:
            return False
        assert a.committed is not None and b.committed is not None
        return a.committed < b.begun or (a.committed == b.committed and a.n < b.n)


@pytest.fixture
def model(database: str) -> Iterator[type[OutboxModel]]:
    yield type("OutboxModel", (OutboxModel,), {"database": database})


def check(model: type[OutboxModel], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[*HealthCheck],
            phases=[Phase.generate, Phase.shrink],
        ),
    )


def test_what_is_committed_arrives_in_the_order_that_is_promised(
    model: type[OutboxModel],
) -> None:
    check(model, 40, 40)


@pytest.mark.big
def test_it_does_so_in_many_more_cases(model: type[OutboxModel]) -> None:
    check(model, 600, 80)
