"""Receivers are called once for all nodes, however long they take, and again if their node has died."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import pytest
from django.test import override_settings

from phx_protocol import StateError, signals
from phx_protocol.node.node import Node
from phx_protocol.state.occupancy import USER, Mark
from phx_protocol.users.occupants import Occupants
from phx_protocol.users.teller import AT_ONCE, CLAIMED
from tests.users.people import Connection
from tests.users.told import Told, told

__all__ = ["told"]


@pytest.fixture(autouse=True)
def _users_are_tracked() -> Iterator[None]:
    with override_settings(
        PHX_PROTOCOL={"TRACK_USERS": True, "OFFLINE_AFTER": 0.000_001}
    ):
        yield


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that share a state in memory, and that the test lets beat."""
    one, two = Node(), Node()
    for node in (one, two):
        node.keep_alive("the test")
        node.heartbeat.start()
        await node.heartbeat.ready()
    yield one, two
    for node in (one, two):
        await node.close()


@contextlib.contextmanager
def hears(signal: signals.AwaitedSignal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


async def test_two_nodes_tell_once_of_a_user_of_both(
    nodes: tuple[Node, Node], told: Told
) -> None:
    tabs = [Connection(node, 7) for node in nodes]
    await told.until(("user_online", "7"))
    tabs[0].close()
    for node in nodes:
        await node.heartbeat.beat()
    tabs[1].close()
    await told.until(("user_online", "7"), ("user_offline", "7"))


async def test_a_plain_receiver_may_block_and_blocks_nobody(
    nodes: tuple[Node, Node], told: Told
) -> None:
    begun, goes_on, ended = threading.Event(), threading.Event(), asyncio.Event()
    threads, loop = set(), asyncio.get_running_loop()

    def receive(sender: Any, user: str, **named: Any) -> None:
        threads.add(threading.current_thread())
        if user == "7":
            begun.set()
            goes_on.wait(20)
            loop.call_soon_threadsafe(ended.set)

    with hears(signals.user_online, receive):
        Connection(nodes[0], 7)
        await asyncio.to_thread(begun.wait, 20)
        Connection(nodes[0], 8)
        Connection(nodes[1], 9)
        async with asyncio.timeout(20):
            # from Django 6.1 on an async receiver hears of 7 when the plain one has returned
            while not {("user_online", "8"), ("user_online", "9")} <= {*told.said}:
                await asyncio.sleep(0.01)
        goes_on.set()
        await asyncio.wait_for(ended.wait(), 20)
        await told.until(*(("user_online", name) for name in "789"))
    assert threading.main_thread() not in threads


async def test_a_receiver_that_crashes_is_logged_and_the_others_hear_it(
    nodes: tuple[Node, Node], told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(sender: Any, **named: Any) -> None:
        raise ZeroDivisionError

    async def cancelled(sender: Any, **named: Any) -> None:
        raise asyncio.CancelledError

    with hears(signals.user_online, crash):
        Connection(nodes[0], 7)
        await told.until(("user_online", "7"))
    with hears(signals.user_online, cancelled):
        Connection(nodes[0], 8)
        await told.until(("user_online", "7"), ("user_online", "8"))
    Connection(nodes[0], 9)
    await told.until(*(("user_online", name) for name in "789"))
    assert "crash" in caplog.text
    if django.VERSION < (
        6,
        1,
    ):  # whose TaskGroup says nothing of a task that cancels itself
        assert "was cancelled" in caplog.text


async def test_a_receiver_that_raises_the_worst_does_not_stop_what_comes_next(
    nodes: tuple[Node, Node], told: Told
) -> None:
    class Worst(BaseException):
        pass

    async def raises(sender: Any, **named: Any) -> None:
        raise Worst

    with hears(signals.user_online, raises):
        tab = Connection(nodes[0], 7)
        await told.until(("user_online", "7"))
    tab.close()
    await told.until(("user_online", "7"), ("user_offline", "7"))


async def test_what_waits_here_and_was_told_by_another_node_is_not_told_again(
    nodes: tuple[Node, Node], told: Told
) -> None:
    """A node that was blocked for longer than its claims are kept."""
    one, two = nodes
    goes_on = asyncio.Event()

    async def hangs(sender: Any, **named: Any) -> None:
        await goes_on.wait()

    users = range(AT_ONCE + 5)
    occupancy = one.heartbeat.state.occupancy(USER)
    with hears(signals.user_online, hangs):
        for user in users:
            Connection(one, user)
        async with asyncio.timeout(20):
            while len(told.said) < AT_ONCE:
                await asyncio.sleep(0.01)
        waiting = one.part(Occupants)._users.teller._claimed
        assert len(waiting) == 5
        # another node has told them
        await occupancy.told(list(waiting))
        await one.heartbeat.beat()
        assert len(one.part(Occupants)._users.teller._claimed) == 0
        goes_on.set()
        async with asyncio.timeout(20):
            while one.part(Occupants)._users.teller._running:
                await asyncio.sleep(0.01)
    assert len(told.said) == AT_ONCE


async def test_while_all_receivers_of_a_node_hang_another_one_tells_the_rest(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    goes_on, heard = asyncio.Event(), list[str]()

    async def hangs(sender: Any, user: str, **named: Any) -> None:
        heard.append(user)
        await goes_on.wait()

    users = range(AT_ONCE + 5)
    with hears(signals.user_online, hangs):
        for user in users:
            Connection(one, user)
        async with asyncio.timeout(20):
            while len(heard) < AT_ONCE:
                await asyncio.sleep(0.01)
        await one.heartbeat.beat()
        await one.heartbeat.beat()
        await two.heartbeat.beat()
        async with asyncio.timeout(20):
            while len(heard) < len(users):
                await asyncio.sleep(0.01)
        assert sorted(map(int, heard)) == list(users)
        goes_on.set()
        await asyncio.sleep(0.1)


async def test_what_a_dead_node_did_not_finish_another_one_tells_with_the_same_id(
    nodes: tuple[Node, Node], told: Told
) -> None:
    heard: list[tuple[str, str]] = []
    begun = asyncio.Event()

    async def hangs_at_first(sender: Any, user: str, id: str, **named: Any) -> None:
        heard.append((user, id))
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()

    one, two = nodes
    with hears(signals.user_online, hangs_at_first):
        Connection(one, 7)
        await asyncio.wait_for(begun.wait(), 20)
        (running,) = one.part(Occupants)._users.teller._running.values()
        occupancy = one.heartbeat.state.occupancy(USER)
        await two.heartbeat.beat()
        assert len(heard) == 1
        running.cancel()
        (record,) = occupancy._records.values()
        record.claimed_until = time.time()  # it beat no more
        await two.heartbeat.beat()
        async with asyncio.timeout(20):
            while len(heard) < 2:
                await asyncio.sleep(0.01)
    assert heard == [heard[0]] * 2


async def test_what_is_being_told_is_kept_with_each_beat(
    nodes: tuple[Node, Node], told: Told
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def takes_its_time(sender: Any, **named: Any) -> None:
        begun.set()
        await goes_on.wait()

    one, two = nodes
    with hears(signals.user_online, takes_its_time):
        Connection(one, 7)
        await asyncio.wait_for(begun.wait(), 20)
        (record,) = one.heartbeat.state.occupancy(USER)._records.values()
        for _ in range(3):
            record.claimed_until = time.time() + 1
            await one.heartbeat.beat()
            assert record.claimed_until > time.time() + 1
            await two.heartbeat.beat()
        goes_on.set()
        await told.until(("user_online", "7"))


async def test_a_state_that_fails_when_it_was_told_hears_of_it_later(
    nodes: tuple[Node, Node], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = nodes
    occupancy = one.heartbeat.state.occupancy(USER)

    async def fails(*args: Any) -> Any:
        raise StateError("the state is away")

    with monkeypatch.context() as away:
        away.setattr(occupancy, "told", fails)
        Connection(one, 7)
        await told.until(("user_online", "7"))
        (record,) = occupancy._records.values()
        assert record.claimed is not None
    async with asyncio.timeout(20):
        while record.claimed is not None:
            await asyncio.sleep(0.01)
    assert record.was_told
    await told.until(("user_online", "7"))


async def test_few_are_told_at_the_same_time_and_all_in_the_end(
    nodes: tuple[Node, Node],
) -> None:
    heard: list[str] = []
    now = most = 0

    async def receive(sender: Any, user: str, **named: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        heard.append(user)

    users = range(3 * CLAIMED)
    with hears(signals.user_online, receive):
        for user in users:
            Connection(nodes[0], user)
        async with asyncio.timeout(20):
            while len(heard) < len(users):
                await asyncio.sleep(0.01)
    assert sorted(map(int, heard)) == list(users)
    assert most <= AT_ONCE


async def test_all_users_of_a_dead_node_are_told_with_one_beat_of_another(
    nodes: tuple[Node, Node], told: Told
) -> None:
    one, two = nodes
    users = range(3 * CLAIMED)
    occupancy = one.heartbeat.state.occupancy(USER)
    await occupancy.mark("dead", [Mark(f"{n}", True, True) for n in users], 0.0)
    await two.heartbeat.beat()  # nobody knows it, so it is dead
    await two.heartbeat.beat()
    async with asyncio.timeout(20):
        while len(told.said) < len(users):
            await asyncio.sleep(0.01)
    assert sorted(int(said.name) for said in told.said) == list(users)
    assert {said.signal for said in told.said} == {"user_offline"}


async def test_a_node_without_receivers_leaves_the_changes_to_others(
    nodes: tuple[Node, Node],
) -> None:
    told = Told()
    Connection(nodes[0], 7)
    for node in nodes:
        await node.heartbeat.beat()
    with told.listening():
        await nodes[1].heartbeat.beat()
        await told.until(("user_online", "7"))


async def test_a_node_that_drains_leaves_to_others_what_it_has_not_begun(
    nodes: tuple[Node, Node], told: Told
) -> None:
    one, two = nodes
    tab = Connection(one, 7)
    await told.until(("user_online", "7"))
    tab.close()
    one.drainer._switch(True)
    await one.part(Occupants).settled()
    await one.close()
    await two.heartbeat.beat()
    await told.until(("user_online", "7"), ("user_offline", "7"))
