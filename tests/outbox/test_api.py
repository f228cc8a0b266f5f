"""broadcast(): a row in the transaction, and what is not a row."""

from __future__ import annotations

from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from phx_protocol import EncodeError, outbox
from phx_protocol.outbox.api import PARTITIONS, partition_of
from phx_protocol.outbox.models import Message


def rows(database: str) -> list[Message]:
    return [*Message._default_manager.using(database).order_by("id")]


def test_a_broadcast_is_a_row_of_the_transaction(database: str) -> None:
    with transaction.atomic(using=database):
        outbox.broadcast("room:1", "said", {"text": "hi"}, using=database)
    (row,) = rows(database)
    assert (row.topic, row.event, row.content) == ("room:1", "said", {"text": "hi"})
    assert row.size == len("room:1said") + len(bytes(row.payload))
    assert row.failed_at is None and row.age < 60


def test_what_is_rolled_back_is_no_row(database: str) -> None:
    with pytest.raises(RuntimeError), transaction.atomic(using=database):
        outbox.broadcast("room:1", "said", {}, using=database)
        raise RuntimeError
    assert not rows(database)


def test_what_is_rolled_back_to_a_savepoint_is_no_row(database: str) -> None:
    with transaction.atomic(using=database):
        outbox.broadcast("room:1", "first", {}, using=database)
        with pytest.raises(RuntimeError), transaction.atomic(using=database):
            outbox.broadcast("room:1", "second", {}, using=database)
            raise RuntimeError
    assert [row.event for row in rows(database)] == ["first"]


def test_it_costs_the_transaction_one_insert(database: str) -> None:
    with transaction.atomic(using=database):
        with CaptureQueriesContext(connections[database]) as queries:
            outbox.broadcast("room:1", "said", {}, using=database)
    (query,) = [q["sql"] for q in queries]
    assert query.startswith("INSERT")


def test_outside_of_a_transaction_it_is_committed_at_once(database: str) -> None:
    outbox.broadcast("room:1", "said", b"\x00\xff", using=database)
    (row,) = rows(database)
    assert row.is_binary and row.content == b"\x00\xff"


async def test_there_are_twins_for_async_code(database: str) -> None:
    await outbox.abroadcast("room:1", "said", {}, using=database)
    await outbox.abroadcast_from("me", "room:1", "said", {}, using=database)
    found = await database_sync_to_async(rows)(database)
    assert [row.sender for row in found] == [None, "me"]


def test_the_sender_is_left_out(database: str) -> None:
    outbox.broadcast_from("some.1", "room:1", "said", {}, using=database)
    assert rows(database)[0].sender == "some.1"


@pytest.mark.parametrize(
    ("topic", "event", "payload", "error"),
    [
        ("room:1", "said", [1], "mapping"),
        ("room:\0", "said", {}, "NUL"),
        ("room:1", "sa\0id", {}, "NUL"),
        ("room:\ud800", "said", {}, "text|surrogate"),
        ("room:1", "said", {"a": "\ud800"}, "surrogate|encode"),
        ("room:1", "said", {"a": object()}, "object"),
        ("room:1", "said", {"a": "x" * 5_000_000}, "MAX_BROADCAST_SIZE"),
    ],
)
def test_what_cannot_be_sent_is_an_error_for_who_writes_it(
    database: str, topic: str, event: str, payload: Any, error: str
) -> None:
    with transaction.atomic(using=database):
        with pytest.raises(EncodeError, match=error):
            outbox.broadcast(topic, event, payload, using=database)
        # the transaction goes on
        outbox.broadcast("room:1", "said", {}, using=database)
    assert len(rows(database)) == 1


def test_text_beyond_ascii_comes_back_as_it_was(database: str) -> None:
    outbox.broadcast("room:ü\n😀", "gesagt 😀", {"ü": "\0😀"}, using=database)
    (row,) = rows(database)
    said = row.topic, row.event, row.content
    assert said == ("room:ü\n😀", "gesagt 😀", {"ü": "\0😀"})


def test_a_database_of_which_nobody_sends_rows_is_refused(
    database: str, settings: Any
) -> None:
    settings.PHX_PROTOCOL = {"OUTBOX": {"DATABASES": ["other"]}}
    with pytest.raises(ImproperlyConfigured, match="'outbox"):
        outbox.broadcast("room:1", "said", {}, using=database)


def test_without_the_app_it_says_what_is_missing(settings: Any) -> None:
    settings.INSTALLED_APPS = ["phx_protocol"]
    with pytest.raises(ImproperlyConfigured, match=r"phx_protocol\.outbox"):
        outbox.broadcast("room:1", "said", {})


def test_topics_are_spread_over_all_partitions_and_stay_there() -> None:
    found = {partition_of(f"room:{n}") for n in range(500)}
    assert found == set(range(PARTITIONS))
    # rows that an older version wrote must be found
    assert [partition_of(t) for t in ("room:lobby", "ü", "")] == [5, 5, 0]
