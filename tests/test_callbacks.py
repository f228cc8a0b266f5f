"""Callbacks: what happens before one is called."""

from __future__ import annotations

import threading

import pytest
from asgiref.sync import sync_to_async

from phx_protocol import callbacks


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which somebody looked for stale connections."""
    looks: list[threading.Thread] = []
    monkeypatch.setattr(callbacks, "thread_sensitive", False)
    monkeypatch.setattr(callbacks, "_looked_at", 0.0)
    monkeypatch.setattr(
        callbacks,
        "close_old_connections",
        lambda: looks.append(threading.current_thread()),
    )
    return looks


async def test_who_asks_the_database_comes_behind_the_look_at_its_connections(
    looks: list[threading.Thread],
) -> None:
    callbacks.look_for_stale_connections()
    # as every call of Django's async ORM does
    assert await sync_to_async(lambda: list(looks))() == looks != []
    assert looks == [await sync_to_async(threading.current_thread)()]


async def test_the_look_is_one_a_second_and_one_after_a_crash(
    looks: list[threading.Thread],
) -> None:
    for _ in range(3):
        callbacks.look_for_stale_connections()
    assert await sync_to_async(lambda: len(looks))() == 1
    callbacks.close_stale_connections()
    assert await sync_to_async(lambda: len(looks))() == 2


async def test_a_look_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("no database")

    monkeypatch.setattr(callbacks, "thread_sensitive", False)
    monkeypatch.setattr(callbacks, "close_old_connections", fail)
    callbacks.close_stale_connections()
    await sync_to_async(lambda: None)()
    assert "stale database connections cannot be closed" in caplog.text
    assert "no database" in caplog.text
