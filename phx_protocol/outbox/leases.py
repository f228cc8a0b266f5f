"""Leases: which partitions of a database a relay has. Called in a thread; the clock is the database's."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from datetime import timedelta
from math import ceil
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from .api import PARTITIONS
from .models import Partition, Relay

#: how long a transaction may pause on PostgreSQL, for this transaction only
PAUSED = "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"


class Leases:
    """The leases of one relay: it has as many partitions as every other one.

    A lease is taken with SKIP LOCKED, where the database has that, so relays do not wait for each other.
    """

    def __init__(self, database: str, seconds: float) -> None:
        self.database = database
        self.seconds = seconds
        self.name = secrets.token_hex(8)
        self.held: frozenset[int] = frozenset()

    @property
    def _relays(self) -> QuerySet[Any]:
        return Relay._default_manager.using(self.database)

    @property
    def partitions(self) -> QuerySet[Any]:
        return Partition._default_manager.using(self.database)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Begin a transaction. If this process is paused in it, PostgreSQL ends it when the lease is over, so
        that others do not wait for its locks."""
        connection = connections[self.database]
        is_outermost = not connection.in_atomic_block
        with transaction.atomic(using=self.database):
            if connection.vendor == "postgresql" and is_outermost:
                milliseconds = int(max(1.0, self.seconds) * 1000)
                with connection.cursor() as cursor:
                    cursor.execute(PAUSED, [str(milliseconds)])
            yield

    def renew(self, wants_all: bool = False) -> bool:
        """Renew what it has, take what it lacks, and give away what is too much; return whether it gave.

        With `wants_all` it takes all that are free.
        """
        until = Now() + timedelta(seconds=self.seconds)
        with self.step():
            # a write first: SQLite then waits for its turn, in place of failing later
            if not self._relays.filter(pk=self.name).update(until=until):
                host, pid = socket.gethostname(), os.getpid()
                own = Relay(name=self.name, host=host, pid=pid, until=until)
                # without signals, here and below: receivers for all models could fail
                self._relays.bulk_create([own])
            if settings.DEBUG:
                self._bury()
            self._forget()
            share = PARTITIONS
            if not wants_all:
                share = ceil(PARTITIONS / max(1, self._relays.count()))
            # this locks them: one whose lease ends just now may be another's a moment later
            self._mine.update(until=until)
            mine = [*self._mine.values_list("number", flat=True)]
            given = mine[share:]
            self.partitions.filter(number__in=given).update(holder="", until=Now())
            kept = mine[:share]
            if len(kept) < share:
                free = self._free(share - len(kept))
                taken = self.partitions.filter(number__in=free)
                taken.update(holder=self.name, until=until)
                kept += free
        self.held = frozenset(kept)
        return bool(given)

    def _forget(self) -> None:
        """Forget relays that are gone; not those that just renew, as these may wait for this one as well."""
        gone = self._relays.filter(until__lt=Now()).select_for_update(skip_locked=True)
        names = [*gone.values_list("pk", flat=True)]
        self._relays.filter(pk__in=names)._raw_delete(self.database)

    def _bury(self) -> None:
        """End the leases of processes of this machine that are gone: whoever develops starts again often."""
        for relay in self._relays.filter(host=socket.gethostname()):
            if not _lives(relay.pid):
                self.partitions.filter(holder=relay.name).update(until=Now())
                self._relays.filter(pk=relay.pk)._raw_delete(self.database)

    @property
    def _mine(self) -> QuerySet[Any]:
        return self.partitions.filter(holder=self.name, until__gt=Now())

    def _free(self, most: int) -> list[int]:
        """Return partitions that nobody has, and lock them until the transaction ends."""
        free = self.partitions.filter(until__lte=Now()).order_by("number")
        found = free.select_for_update(skip_locked=True).values_list(
            "number", flat=True
        )
        taken = [*found[:most]]
        if not taken and self.partitions.count() < PARTITIONS:
            self._make()
            taken = [*found[:most]]
        return taken

    def _make(self) -> None:
        made = [
            Partition(number=number, until=Now(), source=secrets.token_hex(4))
            for number in range(PARTITIONS)
        ]
        self.partitions.bulk_create(made, ignore_conflicts=True)

    def look(self, numbers: frozenset[int]) -> list[Partition]:
        """Renew the leases of `numbers`, in a transaction; return those that it still has, locked."""
        mine = self._mine.filter(number__in=numbers)
        mine.update(until=Now() + timedelta(seconds=self.seconds))
        return [*self._mine.filter(number__in=numbers)]

    def leave(self) -> None:
        """Give all partitions away: this relay ends."""
        with self.step():
            self._mine.update(holder="", until=Now())
            self._relays.filter(pk=self.name)._raw_delete(self.database)
        self.held = frozenset()


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # there, 0 is Ctrl-C
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return True
