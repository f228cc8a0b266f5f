"""Backlog: how much waits in an outbox, and since when."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, NamedTuple

from django.db.models import QuerySet

from .models import Message

#: more rows are not counted
MOST = 100_000


class Backlog(NamedTuple):
    """What waits in the outbox of a database: rows (MOST at most), the age of the oldest in seconds, and
    how many are set aside."""

    database: str
    waiting: int
    age: float
    aside: int


def backlog(database: str, partitions: Collection[int] | None = None) -> Backlog:
    """Ask the database for its backlog, of `partitions` or of all. Raises the errors of the database."""
    rows: QuerySet[Any] = Message._default_manager.using(database)
    if partitions is not None:
        rows = rows.filter(partition__in=partitions)
    waiting = rows.filter(failed_at__isnull=True)
    # nearly the oldest: ids are given in the order of the writing
    oldest = waiting.order_by("id").values_list("written_at", flat=True).first()
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    aside = rows.filter(failed_at__isnull=False)[:MOST].count()
    return Backlog(database, waiting[:MOST].count(), age, aside)
