"""Rows: what reading them costs, however many there are that do not wait."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext

from phx_protocol import outbox
from phx_protocol.outbox.backlog import backlog
from phx_protocol.outbox.leases import Leases
from phx_protocol.outbox.models import Message
from phx_protocol.outbox.rows import Rows

MADE = """
INSERT INTO phx_outbox_message
  (partition, topic, event, payload, is_binary, size, written_at, failed_at, reason)
SELECT 3, 'room:1', 'said', '{"n":1}', false, 20, n, %s, '' FROM generate_series(1, %s) n
"""


def fill(database: str, aside: int, waiting: int) -> None:
    connection = connections[database]
    if connection.vendor != "postgresql":
        pytest.skip("it chooses other plans")
    with connection.cursor() as cursor:
        cursor.execute(MADE, [1.0, aside])
        cursor.execute(MADE, [None, waiting])
        cursor.execute("ANALYZE phx_outbox_message")


def test_rows_that_are_set_aside_are_not_passed_by(database: str) -> None:
    fill(database, aside=50_000, waiting=10_000)
    rows = Message.objects.using(database).in_order_of(3)
    plan = rows.values_list("id", "size")[:100].explain()
    assert "using phx_outbox_waiting" in plan and "pkey" not in plan


def test_the_age_of_a_backlog_is_that_of_its_oldest_row(database: str) -> None:
    rows = Message.objects.using(database)
    for partition, at in (3, 50.0), (7, 20.0), (7, 30.0):
        common = {"topic": "room:1", "event": "said", "payload": b"{}", "size": 1}
        rows.create(partition=partition, written_at=at, **common)
    rows.create(partition=1, written_at=1.0, failed_at=2.0, **common)
    all_of_it, some = backlog(database), backlog(database, [3, 4])
    assert (all_of_it.waiting, all_of_it.aside) == (3, 1)
    assert (some.waiting, some.aside) == (1, 0)
    assert some.age + 29 < all_of_it.age
    assert backlog(database, [4]).age == 0.0


def test_receivers_of_signals_of_all_models_do_not_hear_of_rows(database: str) -> None:
    """They would read each row once more, and the outbox would stop with one that fails."""

    def receiver(sender: Any, **kwargs: Any) -> None:
        raise AssertionError(sender)

    leases = Leases(database, 30)
    signals = [pre_save, post_save, pre_delete, post_delete]
    for signal in signals:
        signal.connect(receiver)
    try:
        leases.renew()
        outbox.broadcast("room:1", "said", {}, using=database)
        rows = Rows(leases)
        batch = rows.next(leases.held)
        with CaptureQueriesContext(connections[database]) as queries:
            rows.next(frozenset(), [row.id for row in batch.rows])
        leases.leave()
    finally:
        for signal in signals:
            signal.disconnect(receiver)
    assert len(batch.rows) == 1 and not Message.objects.using(database).exists()
    assert [q["sql"].split()[0] for q in queries if "phx_" in q["sql"]] == ["DELETE"]
