"""A relay: what is committed is sent, once and in order, whoever stops in between."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import connections, transaction

from phx_protocol import outbox
from phx_protocol.node.node import Node
from phx_protocol.outbox.api import PARTITIONS, partition_of
from phx_protocol.outbox.models import Message, Partition, Relay
from phx_protocol.outbox.relays import Relays

Hear = Callable[..., Any]


def write(database: str, topic: str, numbers: Any, event: str = "said") -> None:
    with transaction.atomic(using=database):
        for n in numbers:
            outbox.broadcast(topic, event, {"n": n}, using=database)


awrite = database_sync_to_async(write)


@database_sync_to_async
def waiting(database: str) -> int:
    return Message._default_manager.using(database).count()


async def gone(database: str) -> None:
    """Wait until all rows are deleted."""
    async with asyncio.timeout(30):
        while await waiting(database):
            await asyncio.sleep(0.01)


async def started(node: Node, database: str) -> None:
    """Start the relays, and wait until they have all partitions."""
    relays = node.part(Relays)
    relays.start()
    async with asyncio.timeout(30):
        while len(relays._relays[database].held) < PARTITIONS:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("topic", ["room:1", "kept:1"])
async def test_rows_that_wait_are_sent_in_their_order(
    database: str, node: Node, hearing: Hear, topic: str
) -> None:
    heard = await hearing(topic)
    await awrite(database, topic, range(300))
    await started(node, database)
    await heard.count(300)
    await gone(database)
    assert heard.numbers() == [*range(300)]
    assert bool(heard.broadcasts[0].offset) == topic.startswith("kept")


async def test_a_relay_hears_of_new_rows_after_the_commit(
    database: str, node: Node, hearing: Hear
) -> None:
    """It looks by itself only each 30 seconds here."""
    heard = await hearing("room:1")
    await started(node, database)
    await asyncio.sleep(0)
    for n in range(3):
        await awrite(database, "room:1", [n])
        await heard.count(n + 1, seconds=10)
    await gone(database)


async def test_a_relay_finds_rows_that_nobody_has_told_of(
    database: str, node: Node, hearing: Hear, settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(outbox.api.hints, "tell", lambda *args: None)
    settings.PHX_PROTOCOL["OUTBOX"]["POLL"] = 0.05
    settings.PHX_PROTOCOL = dict(settings.PHX_PROTOCOL)
    heard = await hearing("room:1")
    await started(node, database)
    await awrite(database, "room:1", [1])
    await heard.count(1, seconds=10)


async def test_all_fields_of_a_broadcast_arrive(
    database: str, node: Node, hearing: Hear
) -> None:
    heard = await hearing("room:1", "kept:1")
    before = time.time()
    send = database_sync_to_async(outbox.broadcast_from)
    await send("me.1", "room:1", "binary", b"\x00\xff", using=database)
    await send("me.2", "kept:1", "ü", {"ü": None}, using=database)
    await started(node, database)
    await heard.count(2)
    by_topic = {b.topic: b for b in heard.broadcasts}
    binary, kept = by_topic["room:1"], by_topic["kept:1"]
    assert (binary.event, binary.payload, binary.sender) == (
        "binary",
        b"\x00\xff",
        "me.1",
    )
    assert (kept.event, kept.sender) == ("ü", "me.2")
    assert heard.payloads("kept:1") == [{"ü": None}]
    for found in (binary, kept):
        assert found.committed_at is not None and found.sent_at is not None
        assert before <= found.committed_at <= found.sent_at <= time.time()


async def test_a_transaction_that_commits_later_is_sent_later_even_if_it_wrote_first(
    database: str, node: Node, hearing: Hear
) -> None:
    if connections[database].vendor == "sqlite":
        pytest.skip("it has one transaction that writes at a time")
    heard = await hearing("kept:1")
    await started(node, database)
    written, may_commit = threading.Event(), threading.Event()

    def late() -> None:
        with transaction.atomic(using=database):
            outbox.broadcast("kept:1", "said", {"n": 1}, using=database)
            written.set()
            assert may_commit.wait(30)
        connections[database].close()

    thread = threading.Thread(target=late)
    thread.start()
    await asyncio.to_thread(written.wait, 30)
    await awrite(database, "kept:1", [2])
    await heard.count(1)
    assert heard.numbers() == [2]
    may_commit.set()
    await heard.count(2)
    await asyncio.to_thread(thread.join)
    assert heard.numbers() == [2, 1]
    await gone(database)


async def test_who_ends_gives_its_partitions_to_others(
    database: str, node: Node
) -> None:
    await started(node, database)
    await node.part(Relays).settled()

    @database_sync_to_async
    def left() -> tuple[int, int]:
        held = Partition._default_manager.using(database).exclude(holder="")
        return held.count(), Relay._default_manager.using(database).count()

    assert await left() == (0, 0)


async def test_a_database_that_is_away_is_one_line_in_the_log(
    database: str, node: Node, hearing: Hear, caplog: pytest.LogCaptureFixture
) -> None:
    heard = await hearing("room:1")
    await started(node, database)
    relay = node.part(Relays)._relays[database]
    look, is_away = relay._leases.look, True

    def failing(numbers: Any) -> Any:
        if is_away:
            raise RuntimeError("away")
        return look(numbers)

    relay._leases.look = failing  # type: ignore[method-assign]
    await awrite(database, "room:1", [1])
    async with asyncio.timeout(10):
        while "cannot be read" not in caplog.text:
            await asyncio.sleep(0.01)
    is_away = False
    await heard.count(1)
    await gone(database)
    assert caplog.text.count("cannot be read") == 1
    assert caplog.text.count("can be read again") == 1


async def test_rows_are_sent_by_the_relay_of_their_partition_only(
    database: str, node: Node, hearing: Hear
) -> None:
    """Another relay has the partition, though it does nothing."""
    heard = await hearing("room:1", "room:2")
    mine, theirs = partition_of("room:2"), partition_of("room:1")
    assert mine != theirs
    await started(node, database)
    relay = node.part(Relays)._relays[database]

    @database_sync_to_async
    def take() -> None:
        own = Partition._default_manager.using(database).filter(number=theirs)
        own.update(holder="another")

    await take()
    await awrite(database, "room:1", [1])
    await awrite(database, "room:2", [2])
    await heard.count(1)
    await asyncio.sleep(0.2)
    assert heard.numbers() == [2]
    assert theirs in relay.held  # as it has not looked yet


async def test_what_was_sent_is_deleted_before_its_partition_is_given_away(
    database: str, node: Node, hearing: Hear
) -> None:
    """Else whoever gets it would send it again."""
    heard = await hearing("room:1", "room:2", "room:3")
    await started(node, database)
    relay = node.part(Relays)._relays[database]
    send, renew, left = relay._sender.send, relay._leases.renew, list[int]()

    async def sending(*args: Any) -> Any:
        outcome = await send(*args)
        relay._times.renew = 0.0  # just now it is time
        return outcome

    def renewing() -> bool:
        if heard.broadcasts:
            left.append(Message._default_manager.using(database).count())
        return renew()

    relay._sender.send = sending  # type: ignore[method-assign]
    relay._leases.renew = renewing  # type: ignore[method-assign]
    for n in range(1, 4):
        await awrite(database, f"room:{n}", [n])
        await heard.count(n)
        await gone(database)
    await asyncio.sleep(0.1)
    assert left and not any(left)


async def test_hints_during_an_outage_are_not_its_end(
    database: str, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await started(node, database)
    relay = node.part(Relays)._relays[database]
    asked = 0

    def failing(numbers: Any) -> Any:
        nonlocal asked
        asked += 1
        raise RuntimeError("away")

    relay._leases.look = failing  # type: ignore[method-assign]
    for n in range(150):
        relay.wake([n % PARTITIONS])
        await asyncio.sleep(0.01)
    assert caplog.text.count("cannot be read") == 1
    assert "can be read again" not in caplog.text
    assert asked <= 2


async def test_leases_that_could_not_be_renewed_are_tried_again_soon(
    database: str, node: Node
) -> None:
    """Not only when a third of the lease is over: it is ten seconds here."""
    relays = node.part(Relays)
    relays.start()
    relay = relays._relays[database]
    renew, fails = relay._leases.renew, True

    def failing() -> bool:
        nonlocal fails
        if fails:
            fails = False
            raise RuntimeError("away")
        return renew()

    relay._leases.renew = failing  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        while not relay.held:
            await asyncio.sleep(0.01)


async def test_a_process_that_is_resumed_sends_again_also_without_clients(
    database: str, node: Node, hearing: Hear
) -> None:
    heard = await hearing("room:1")
    await started(node, database)
    await node.drainer.run()
    await awrite(database, "room:1", [1])
    await asyncio.sleep(0.1)
    assert not heard.broadcasts
    node.drainer.resume()
    await heard.count(1, seconds=10)


async def test_a_process_that_is_resumed_sends_nothing_if_it_did_not_before(
    database: str, node: Node
) -> None:
    await node.drainer.run()
    node.drainer.resume()
    assert not node.part(Relays)._relays
