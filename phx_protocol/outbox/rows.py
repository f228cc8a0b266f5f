"""Rows: what a relay reads from the outbox of a database, and deletes from it. Called in a thread."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from django.db.models import Exists, OuterRef

from ..socket.routes import history_of
from ..state import Row
from ..wire.messages import Broadcast
from .leases import Leases
from .models import Message, Messages, Partition

#: most rows that are read, and deleted, in one transaction, and their bytes
BATCH = 1000
BATCH_BYTES = 8 * 1024 * 1024
#: most characters of the reason why a row is set aside
REASON = 1000

COLUMNS = (
    "id",
    "partition",
    "topic",
    "event",
    "payload",
    "is_binary",
    "size",
    "sender",
    "headers",
    "written_at",
)


class Waiting(NamedTuple):
    """A row that is to be sent; `row` is its place in its history, None if its topic has none."""

    id: int
    partition: int
    broadcast: Broadcast
    size: int
    row: Row | None


class Batch(NamedTuple):
    """Rows to send next, those of a topic in their order, and the partitions that have more."""

    rows: list[Waiting]
    more: frozenset[int]


class Rows:
    """The rows of the partitions that a relay has.

    What is sent is what is not yet sent: nothing is remembered by ids, which need not be committed in
    their order. Before rows of topics with a history are sent, they get numbers, which are written down:
    whoever goes on when this relay has died sends the same rows with the same numbers first, so a history
    knows those that it has had.
    """

    def __init__(self, leases: Leases) -> None:
        self.leases = leases

    @property
    def _waiting(self) -> Messages:
        return Message.objects.using(self.leases.database).waiting()

    def due(self) -> frozenset[int]:
        """Return the partitions of this relay that have rows."""
        some = self._waiting.filter(partition=OuterRef("number"))
        held = self.leases.partitions.filter(number__in=self.leases.held)
        return frozenset(held.filter(Exists(some)).values_list("number", flat=True))

    def next(
        self,
        partitions: frozenset[int],
        sent: Collection[int] = (),
        failed: Mapping[int, str] | None = None,
        most: int = BATCH,
    ) -> Batch:
        """Delete the rows that were `sent`, set those aside that have `failed` (id -> why), and read the next.

        It is one transaction, and begins with a look at the leases.
        """
        with self.leases.step():
            held = self.leases.look(partitions)
            if sent:
                # as bulk_create, without signals: receivers for all models would read each row
                done = self._waiting.filter(pk__in=sent)
                done._raw_delete(self.leases.database)
            for id, reason in (failed or {}).items():
                aside = {"failed_at": time.time(), "reason": reason[:REASON]}
                self._waiting.filter(pk=id).update(**aside)
            return self._read(held, most)

    def _read(self, held: list[Partition], most: int) -> Batch:
        numbers = {partition.number: _numbers(partition) for partition in held}
        chosen: list[int] = []
        more: set[int] = set()
        left, room = most, BATCH_BYTES
        for behind, partition in zip(range(len(held), 0, -1), held):
            # all partitions get their share, and what those before leave
            share = max(0, left) // behind, max(0, room) // behind
            own, has_more = self._choose(partition, numbers[partition.number], *share)
            left, room = left - len(own), room - sum(own.values())
            chosen += own
            if has_more:
                more.add(partition.number)
        found = self._waiting.filter(pk__in=chosen).values_list(*COLUMNS)
        by_id = {values[0]: values for values in found} if chosen else {}
        rows = [by_id[id] for id in chosen if id in by_id]
        for partition in held:
            own_rows = [values for values in rows if values[1] == partition.number]
            self._number(partition, numbers[partition.number], own_rows)
        sources = {partition.number: partition.source for partition in held}
        waiting = [_waiting(v, sources[v[1]], numbers[v[1]].get(v[0])) for v in rows]
        return Batch(waiting, frozenset(more))

    def _choose(
        self, partition: Partition, numbers: dict[int, int], most: int, room: int
    ) -> tuple[dict[int, int], bool]:
        """Return the next rows, id -> size, and whether there are more: those with numbers first.

        Rows that are gone lose their numbers. There is one row at least, however large.
        """
        chosen: dict[int, int] = {}
        rows, known = self._waiting, dict[int, int]()
        if numbers:
            known = dict(rows.filter(pk__in=numbers).values_list("id", "size"))
        for gone in numbers.keys() - known.keys():
            del numbers[gone]
        # one more, to see whether there is one
        fresh = rows.in_order_of(partition.number).values_list("id", "size")
        fresh = fresh[: most + len(known) + 1]
        others = ((id, size) for id, size in fresh if id not in known)
        for id, size in chain(((id, known[id]) for id in numbers), others):
            if chosen and (len(chosen) >= most or room < size):
                return chosen, True
            chosen[id] = size
            room -= size
        return chosen, False

    def _number(
        self, partition: Partition, numbers: dict[int, int], rows: list[Any]
    ) -> None:
        """Give numbers to those of `rows` that need one, and write all down."""
        # by the time, so that they also rise if the database was restored from a backup
        n = max(partition.last + 1, int(time.time() * 1_000_000))
        last = partition.last
        for values in rows:
            id, topic = values[0], values[2]
            if id not in numbers and history_of(topic) is not None:
                numbers[id] = last = n
                n += 1
        if numbers != _numbers(partition):
            sending = msgspec.json.encode(numbers).decode()
            one = self.leases.partitions.filter(pk=partition.number)
            one.update(last=last, sending=sending)


def _numbers(partition: Partition) -> dict[int, int]:
    """Return the numbers of the rows that may be on their way, in their order."""
    found = msgspec.json.decode(partition.sending, type=dict[int, int])
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _waiting(values: Any, source: str, n: int | None) -> Waiting:
    id, partition, topic, event, payload, is_binary, size, *rest = values
    sender, headers, written_at = rest
    raw = bytes(payload) if is_binary else msgspec.Raw(bytes(payload))
    broadcast = Broadcast(
        topic, event, raw, None, time.time(), headers, sender, written_at
    )
    row = None if n is None else Row(source, n)
    return Waiting(id, partition, broadcast, size, row)
