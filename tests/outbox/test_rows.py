"""What a relay reads in one step: the order, the numbers, and how much of it."""

from __future__ import annotations

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from phx_protocol import outbox
from phx_protocol.outbox.api import partition_of
from phx_protocol.outbox.leases import Leases
from phx_protocol.outbox.models import Message
from phx_protocol.outbox.rows import BATCH_BYTES, REASON, Batch, Rows


@pytest.fixture
def rows(database: str) -> Rows:
    """Of a relay that has all partitions."""
    leases = Leases(database, 600)
    leases.renew()
    return Rows(leases)


def write(rows: Rows, topic: str, *numbers: int, size: int = 0) -> None:
    using = rows.leases.database
    with transaction.atomic(using=using):
        for n in numbers:
            outbox.broadcast(topic, "said", {"n": n, "x": "x" * size}, using=using)


def read(rows: Rows, *topics: str, most: int = 1000) -> Batch:
    return rows.next(frozenset(map(partition_of, topics)), most=most)


def ids(batch: Batch) -> list[int]:
    return [waiting.id for waiting in batch.rows]


def test_rows_come_in_the_order_in_which_they_were_written(rows: Rows) -> None:
    write(rows, "room:1", *range(20))
    found = read(rows, "room:1")
    assert ids(found) == sorted(ids(found)) and len(found.rows) == 20
    assert not found.more


def test_only_rows_of_topics_with_a_history_have_numbers_which_rise(rows: Rows) -> None:
    write(rows, "room:1", 1, 2)
    write(rows, "kept:1", 3, 4)
    found = read(rows, "room:1", "kept:1").rows
    assert [w.row for w in found if w.broadcast.topic == "room:1"] == [None, None]
    first, second = [w.row for w in found if w.broadcast.topic == "kept:1"]
    assert first and second and first.source == second.source and first.n < second.n


def test_who_goes_on_sends_the_same_rows_with_the_same_numbers_first(
    rows: Rows,
) -> None:
    write(rows, "kept:1", *range(5))
    before = read(rows, "kept:1", most=3)
    write(rows, "kept:1", *range(5, 8))
    again = read(rows, "kept:1")
    assert ids(again)[:3] == ids(before) and len(again.rows) == 8
    numbers = [w.row.n for w in again.rows if w.row]
    assert numbers[:3] == [w.row.n for w in before.rows if w.row]
    assert numbers == sorted(set(numbers))


def test_numbers_stay_with_rows_that_are_not_read_again_at_once(rows: Rows) -> None:
    """Few are read while Redis is away; what was numbered before may be in a history."""
    write(rows, "kept:1", *range(5))
    before = {w.id: w.row for w in read(rows, "kept:1").rows}
    few = read(rows, "kept:1", most=1)
    assert len(few.rows) == 1 and few.more
    assert {w.id: w.row for w in read(rows, "kept:1").rows} == before


def test_numbers_of_rows_that_are_gone_are_forgotten(rows: Rows) -> None:
    write(rows, "kept:1", 1, 2)
    first, second = read(rows, "kept:1").rows
    partition = frozenset({first.partition})
    left = rows.next(partition, sent=[first.id])
    assert [w.row for w in left.rows] == [second.row]
    rows.next(partition, sent=[second.id])
    assert rows.leases.partitions.get(number=first.partition).sending == "{}"


def test_all_partitions_get_their_share_of_a_batch(rows: Rows) -> None:
    write(rows, "room:1", *range(200))
    write(rows, "room:2", *range(3))
    assert partition_of("room:1") != partition_of("room:2")
    found = read(rows, "room:1", "room:2", most=20)
    topics = [w.broadcast.topic for w in found.rows]
    assert topics.count("room:2") == 3 and topics.count("room:1") >= 10
    assert found.more == {partition_of("room:1")}


def test_a_batch_has_few_bytes_and_one_row_at_least(rows: Rows) -> None:
    write(rows, "room:1", *range(5), size=3_000_000)
    found = read(rows, "room:1")
    assert len(found.rows) == BATCH_BYTES // 3_000_000 and found.more
    rows.next(frozenset(), sent=ids(found))
    assert len(read(rows, "room:1", most=0).rows) == 1


def test_what_was_sent_is_deleted_and_what_failed_is_set_aside(rows: Rows) -> None:
    write(rows, "room:1", 1, 2, 3)
    first, second, third = ids(read(rows, "room:1"))
    left = rows.next(
        frozenset({partition_of("room:1")}), [first], {second: "why" * REASON}
    )
    assert ids(left) == [third]
    aside = Message._default_manager.using(rows.leases.database).get(pk=second)
    assert aside.failed_at is not None and len(aside.reason) == REASON


def test_who_has_lost_the_lease_reads_nothing_but_deletes_what_it_has_sent(
    rows: Rows,
) -> None:
    write(rows, "room:1", 1, 2)
    first, _ = ids(read(rows, "room:1"))
    rows.leases.partitions.update(holder="another")
    batch = rows.next(frozenset({partition_of("room:1")}), [first])
    assert not batch.rows
    assert Message._default_manager.using(rows.leases.database).count() == 1


def test_the_partitions_with_rows_are_found_with_one_query(rows: Rows) -> None:
    write(rows, "room:1", 1)
    write(rows, "room:2", 1)
    with CaptureQueriesContext(connections[rows.leases.database]) as queries:
        assert rows.due() == {partition_of("room:1"), partition_of("room:2")}
    assert len(queries) == 1


def test_a_step_takes_few_statements_however_many_rows_there_are(rows: Rows) -> None:
    write(rows, "kept:1", *range(300))
    sent = ids(read(rows, "kept:1", most=100))
    with CaptureQueriesContext(connections[rows.leases.database]) as queries:
        rows.next(frozenset({partition_of("kept:1")}), sent, most=100)
    assert len([q for q in queries if "phx_" in q["sql"]]) <= 7
