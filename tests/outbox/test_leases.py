"""Which relay has which partitions."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest
from django.db import connections, transaction

from phx_protocol.outbox.api import PARTITIONS
from phx_protocol.outbox.leases import Leases
from phx_protocol.outbox.models import Relay
from tests.support import servers


def relays(database: str, *leases: Leases) -> None:
    """Let them renew often enough for what one gives to reach another."""
    for _ in range(3):
        for one in leases:
            one.renew()


def test_a_relay_alone_has_all_partitions(database: str) -> None:
    alone = Leases(database, 600)
    alone.renew()
    assert alone.held == frozenset(range(PARTITIONS))


def test_relays_share_the_partitions_evenly(database: str) -> None:
    several = [Leases(database, 600) for _ in range(3)]
    relays(database, *several)
    counts = sorted(len(one.held) for one in several)
    assert sum(counts) == PARTITIONS and counts[-1] - counts[0] <= 2
    assert frozenset().union(*(one.held for one in several)) == {*range(PARTITIONS)}


def test_a_relay_tells_that_it_has_given_some_away(database: str) -> None:
    first, second = Leases(database, 600), Leases(database, 600)
    assert not first.renew()
    second.renew()
    assert not second.held
    assert first.renew()
    assert not second.renew() and len(second.held) == PARTITIONS / 2


def test_who_leaves_leaves_all_to_the_others(database: str) -> None:
    first, second = Leases(database, 600), Leases(database, 600)
    relays(database, first, second)
    first.leave()
    second.renew()
    assert len(second.held) == PARTITIONS and not first.held


def test_the_lease_of_a_relay_that_is_silent_ends(database: str) -> None:
    silent, other = Leases(database, -1), Leases(database, 600)
    silent.renew()
    other.renew()
    assert len(other.held) == PARTITIONS
    with transaction.atomic(using=database):
        assert silent.look(silent.held) == []


def test_there_are_more_relays_than_partitions(database: str) -> None:
    many = [Leases(database, 600) for _ in range(PARTITIONS + 4)]
    relays(database, *many)
    assert sorted(len(one.held) for one in many) == [0] * 4 + [1] * PARTITIONS


def test_a_partition_that_somebody_takes_is_not_waited_for(database: str) -> None:
    if connections[database].vendor == "sqlite":
        pytest.skip("its transactions wait for each other")
    Leases(database, -1).renew()  # all are there, and free
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=database):
            rows = Leases(database, 600).partitions.filter(number__lt=3)
            assert len([*rows.select_for_update()]) == 3
            locked.set()
            assert done.wait(30)
        connections[database].close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(30)
    other = Leases(database, 600)
    other.renew()
    done.set()
    thread.join()
    assert other.held == frozenset(range(3, PARTITIONS))


def test_while_one_develops_a_process_that_is_gone_is_noticed_at_once(
    database: str, settings: Any
) -> None:
    gone = Leases(database, 600)
    gone.renew()
    ended = servers.start([sys.executable, "-c", ""])
    ended.wait()
    Relay._default_manager.using(database).update(pid=ended.pid)
    other = Leases(database, 600)
    other.renew()
    assert not other.held
    settings.DEBUG = True
    other.renew()
    assert len(other.held) == PARTITIONS
    # and one that lives is left alone
    Relay._default_manager.using(database).update(pid=os.getppid())
    third = Leases(database, 600)
    third.renew()
    assert not third.held
