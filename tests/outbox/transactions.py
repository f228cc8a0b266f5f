"""Transactions that write rows, and what is promised of the order in which these are heard."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections, transaction

from phx_protocol import outbox


class Written:
    """A row: its transaction, and its place in it."""

    def __init__(self, n: int, topic: str, event: str, begun: int) -> None:
        self.n, self.topic, self.event, self.begun = n, topic, event, begun
        self.committed: int | None = None  # when, if it is

    @property
    def is_kept(self) -> bool:
        is_kept = {"kept": True, "partly": self.event == "kept"}
        return is_kept.get(self.topic.partition(":")[0], False)

    def must_be_before(self, other: Written) -> bool:
        """It was committed before the other transaction began; or both are of one, and it is the first.

        What a history keeps may come later than what it does not: if it was missed it is read.
        """
        if self.is_kept != other.is_kept:
            return False
        assert self.committed is not None and other.committed is not None
        is_of_one = self.committed == other.committed
        return self.committed < other.begun or (is_of_one and self.n < other.n)


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


def check_heard(written: Mapping[int, Written], heard: Sequence[int]) -> None:
    """All that was committed is heard and nothing else; once if it is kept; in the order of the commits."""
    assert {*heard} == {n for n, row in written.items() if row.committed is not None}
    for n, count in Counter(heard).items():
        assert count == 1 or not written[n].is_kept, (n, heard)
    # of what is heard again only the first time counts
    first: dict[str, list[Written]] = {}
    for n in dict.fromkeys(heard):
        first.setdefault(written[n].topic, []).append(written[n])
    for rows in first.values():
        for before, after in itertools.combinations(rows, 2):
            assert not after.must_be_before(before), (
                before.topic,
                (before.n, after.n),
                heard,
            )
