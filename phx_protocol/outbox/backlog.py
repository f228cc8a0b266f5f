"""Backlog: how much waits in an outbox, and since when."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from .api import PARTITIONS
from .models import Message

#: more rows are not counted
MOST = 100_000


class Backlog(NamedTuple):
    """How many rows of a database's outbox wait (MOST at most), the age of the oldest one in seconds, and
    how many rows were set aside."""

    database: str
    waiting: int
    age: float
    aside: int


def backlog(database: str, partitions: Collection[int] | None = None) -> Backlog:
    """Ask the database for its backlog, of `partitions` or of all. Raises the errors of the database."""
    rows = Message.objects.using(database)
    # nearly the oldest: ids are given in the order of the writing
    firsts = [
        rows.in_order_of(number).values_list("written_at", flat=True).first()
        for number in (range(PARTITIONS) if partitions is None else partitions)
    ]
    oldest = min((first for first in firsts if first is not None), default=None)
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    if partitions is not None:
        rows = rows.filter(partition__in=partitions)
    waiting = rows.waiting()
    aside = rows.filter(failed_at__isnull=False)[:MOST].count()
    return Backlog(database, waiting[:MOST].count(), age, aside)
