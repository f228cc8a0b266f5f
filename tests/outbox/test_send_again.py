"""The admin of the outbox: rows that were set aside are sent again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from phx_protocol.outbox import admin, hints
from phx_protocol.outbox.models import Message


def write(database: str, count: int, **fields: Any) -> None:
    fields = {"partition": 5, "topic": "room:lobby", "payload": b"{}", **fields}
    rows = [
        Message(event="said", size=10, written_at=float(n), **fields)
        for n in range(count)
    ]
    Message.objects.using(database).bulk_create(rows, batch_size=1000)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> admin.MessageAdmin:
    monkeypatch.setattr(messages, "success", lambda *args: None)
    return admin.MessageAdmin(Message, AdminSite())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []
    monkeypatch.setattr(hints, "tell", lambda *args: told.append(args))
    return told


def test_rows_are_sent_again_in_their_order(
    database: str, page: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "TOGETHER", 3)
    write(database, 10, failed_at=1.0, reason="too large", payload=b'{"n":1}')
    write(database, 1)
    rows = Message.objects.using(database)
    last = max(rows.values_list("pk", flat=True))
    page.send_again(None, page.get_queryset(None).using(database))
    again = rows.filter(pk__gt=last).order_by("pk")
    assert [row.written_at for row in again] == [*range(10)]
    assert {(row.failed_at, row.reason) for row in again} == {(None, "")}
    assert {bytes(row.payload) for row in again} == {b'{"n":1}'}
    assert rows.count() == 11
    assert all(where == (database, {5}) for where in told) and len(told) == 4


def test_a_row_that_is_set_aside_again_meanwhile_is_not_sent_twice(
    database: str, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay is as fast as the admin."""
    aside = Message.objects.using(database).filter
    calls = 0

    def fails_again(*args: Any) -> None:
        nonlocal calls
        calls += 1
        aside(failed_at__isnull=True).update(failed_at=time.time())

    monkeypatch.setattr(hints, "tell", fails_again)
    write(database, 2, failed_at=1.0)
    page.send_again(None, Message.objects.using(database))
    assert calls == 1


def test_relays_are_told_after_the_commit_of_the_request(
    database: str, page: Any, told: list[Any]
) -> None:
    write(database, 1, failed_at=1.0)
    with transaction.atomic(using=database):
        page.send_again(None, Message.objects.using(database))
        assert not told
    assert len(told) == 1


def test_the_list_reads_no_payloads(database: str, page: Any) -> None:
    write(database, 3)
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    with CaptureQueriesContext(connections[database]) as queries:
        rows = [*page.get_queryset(request).using(database)]
        shown = [[getattr(page, n)(r) for n in ("waits_for", "state")] for r in rows]
    assert len(shown) == 3 and len(queries) == 1
    assert "payload" not in queries[0]["sql"]
