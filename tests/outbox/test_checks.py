"""The checks of the outbox."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections

from phx_protocol import outbox
from phx_protocol.outbox.checks import check_backlog, check_databases
from phx_protocol.outbox.models import Message


def ids(found: Any) -> list[str]:
    return [one.id.rpartition(".")[2] for one in found]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({}, []),
        ({"RELAY": False, "POLL": 0.5, "LEASE": 5}, []),
        ({"DATABASES": ("default",)}, []),
        ({"DATABASES": "default"}, ["E021"]),
        ({"POLL": 0}, ["E021"]),
        ({"LEASE": "10"}, ["E021"]),
        ({"RELAY": "yes"}, ["E021"]),
        ({"BATCH": 5}, ["E021"]),
        ({"DATABASES": ["other"]}, ["E022"]),
    ],
)
def test_each_mistake_in_the_setting_is_found(
    settings: Any, chosen: Any, found: list[str]
) -> None:
    settings.PHX_PROTOCOL = {"OUTBOX": chosen}
    assert ids(check_databases()) == found


@pytest.mark.parametrize("wrong", [{"OUTBOX": 5}, {"OUTBOXES": {}}])
def test_other_checks_speak_of_what_is_no_dict(settings: Any, wrong: Any) -> None:
    settings.PHX_PROTOCOL = wrong
    assert check_databases() == []


def test_other_databases_are_a_warning(
    settings: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(connections[database]), "vendor", "mysql")
    assert ids(check_databases()) == ["W010"]


def test_transactions_of_sqlite_that_begin_to_write_late_are_a_warning(
    database: str,
) -> None:
    assert check_databases() == []
    connection = connections[database]
    connection.settings_dict["OPTIONS"].pop("transaction_mode", None)
    is_sqlite = connection.vendor == "sqlite"
    assert ids(check_databases()) == ["W013"] * is_sqlite


def test_rows_that_wait_for_long_are_a_warning(database: str) -> None:
    outbox.broadcast("room:1", "said", {}, using=database)
    assert check_backlog(databases=[database]) == []
    rows = Message._default_manager.using(database)
    rows.update(written_at=time.time() - 100)
    (found,) = check_backlog(databases=[database])
    assert found.id == "phx_protocol.W011" and "1 rows" in found.msg


def test_rows_that_were_set_aside_are_a_warning(database: str) -> None:
    outbox.broadcast("room:1", "said", {}, using=database)
    rows = Message._default_manager.using(database)
    rows.update(failed_at=time.time(), written_at=time.time() - 100)
    assert ids(check_backlog(databases=[database])) == ["W012"]


def test_databases_that_are_not_asked_for_are_not_read(database: str) -> None:
    outbox.broadcast("room:1", "said", {}, using=database)
    Message._default_manager.using(database).update(written_at=0)
    assert check_backlog(databases=None) == []
