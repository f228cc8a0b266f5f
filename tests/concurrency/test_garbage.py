"""The garbage collector of a process that serves sockets."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import Socket
from phx_protocol.concurrency import garbage
from phx_protocol.transports.handshake import Handshake

SERVED = {"type": "websocket", "path": "/", "asgi": {"version": "3.0"}}
TESTED = {"type": "websocket", "path": "/"}


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not served a socket yet, and its collector as it is, in the end."""
    monkeypatch.setattr(garbage, "_is_settled", False)
    threshold = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def handshake(scope: dict[str, Any], **settings: Any) -> None:
    with override_settings(PHX_PROTOCOL=settings):
        Handshake(Socket, {"headers": [], **scope})


def test_the_first_handshake_freezes_what_the_process_has() -> None:
    threshold = gc.get_threshold()
    handshake(SERVED)
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    assert gc.get_threshold() == threshold
    handshake(SERVED)
    assert gc.get_freeze_count() == frozen


def test_a_test_client_leaves_the_collector_alone() -> None:
    handshake(TESTED, GC_THRESHOLD=5000)
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold()[0] != 5000


def test_a_project_may_leave_all_objects_to_the_collector() -> None:
    handshake(SERVED, GC_FREEZE=False)
    assert gc.get_freeze_count() == 0


def test_the_threshold_of_new_objects_is_a_setting() -> None:
    later = gc.get_threshold()[1:]
    handshake(SERVED, GC_THRESHOLD=5000)
    assert gc.get_threshold() == (5000, *later)
