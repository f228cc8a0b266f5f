"""Leases: who takes what from whom, at the same moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.db.models.functions import Now

from phx_protocol.outbox.api import PARTITIONS
from phx_protocol.outbox.leases import Leases
from phx_protocol.outbox.models import Partition, Relay


def test_relays_that_were_away_together_do_not_wait_for_each_other(
    database: str,
) -> None:
    """After an outage of the database all of them renew, and find the others late."""
    if connections[database].vendor == "sqlite":
        pytest.skip("it has one transaction that writes at a time")
    relays = [Leases(database, 30), Leases(database, 30)]
    for relay in relays:
        relay.renew()
    Relay._default_manager.using(database).update(until=Now() - timedelta(seconds=60))
    both = threading.Barrier(2)

    def wait(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith('UPDATE "phx_outbox_relay"'):
            both.wait(10)
        return result

    def renew(relay: Leases) -> None:
        with connections[database].execute_wrapper(wait):
            relay.renew()
        connections[database].close()

    with ThreadPoolExecutor(2) as threads:
        [*threads.map(renew, relays)]
    assert Relay._default_manager.using(database).count() == 2


def test_who_renews_does_not_take_back_what_another_one_has_just_got(
    database: str,
) -> None:
    late, other = Leases(database, 30), Leases(database, 30)
    late.renew()
    partitions = Partition._default_manager.using(database)

    def take(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("SELECT") and '"phx_outbox_partition"."holder"' in sql:
            # as if its lease were over at this moment
            wrapper.__exit__(None, None, None)
            is_locked = connections[database].vendor == "sqlite" or not take_all(other)
            assert is_locked
        return result

    wrapper = connections[database].execute_wrapper(take)
    wrapper.__enter__()
    late.renew()
    assert partitions.filter(holder=late.name).count() == len(late.held) == PARTITIONS


def test_a_relay_that_is_paused_in_a_transaction_holds_up_no_other(
    database: str,
) -> None:
    if connections[database].vendor == "sqlite":
        pytest.skip("nobody can end its transactions")
    paused, other = Leases(database, 1), Leases(database, 30)
    paused.renew()
    may_wake = threading.Event()

    def pause() -> None:
        try:
            with paused.step():
                assert len(paused.look(paused.held)) == PARTITIONS
                assert may_wake.wait(30)
                paused.look(paused.held)
        finally:
            connections[database].close()

    with ThreadPoolExecutor(1) as thread:
        waking = thread.submit(pause)
        end = time.monotonic() + 20
        while len(other.held) < PARTITIONS and time.monotonic() < end:
            time.sleep(0.1)
            other.renew()
        may_wake.set()
        with pytest.raises(DatabaseError):
            waking.result(30)
    assert len(other.held) == PARTITIONS


def take_all(other: Leases) -> bool:
    """In another connection; return whether it could."""

    def take() -> bool:
        with connections[other.database].cursor() as cursor:
            cursor.execute(
                "SELECT number FROM phx_outbox_partition FOR UPDATE SKIP LOCKED"
            )
            found = cursor.fetchall()
        connections[other.database].close()
        return bool(found)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(take).result(30)
