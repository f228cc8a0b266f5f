"""The sessions of one process: how many there are, and that none stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol.node.node import get_node
from phx_protocol.transports.longpoll.sessions import Sessions
from tests.support.asgi_poll_client import Client
from tests.transports.longpoll.rooms import (
    HEARTBEAT,
    PatientSocket,
    _ended,
    opened,
)

__all__ = ["_ended"]


async def test_sessions_that_nobody_polls_make_room_for_new_ones(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.transports.longpoll.sessions.UNPOLLED", 2)
    polled = await opened(PatientSocket)
    await polled.join("room:a")  # which is seen in a poll
    clients = [await opened(PatientSocket) for _ in range(3)]
    statuses = [(await client.post(HEARTBEAT))["status"] for client in clients]
    assert statuses == [410, 200, 200]
    assert await polled.post(HEARTBEAT) == {"status": 200}


async def test_their_requests_count_by_their_bytes_and_not_one_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = get_node().part(Sessions)
    monkeypatch.setattr(
        "phx_protocol.transports.longpoll.sessions.UNPOLLED_BYTES", 20_000
    )
    clients = [Client(PatientSocket, {"p": "x" * size}) for size in (1, *[8000] * 3)]
    for client in clients:
        await client.open()
    small, *large = clients
    statuses = [(await client.post(HEARTBEAT))["status"] for client in (small, *large)]
    assert statuses == [410, 410, 200, 200]
    for client in large[1:]:
        await client.poll()
    assert sessions._unpolled_bytes == 0


async def test_a_session_that_ends_while_it_opens_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pubsub = get_node()
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def reachable() -> None:  # as long as a layer that is slow
        began.set()
        await may_go_on.wait()

    monkeypatch.setattr(pubsub, "reachable", reachable)
    opening = asyncio.create_task(Client(PatientSocket, {"id": "users:1"}).open())
    await began.wait()
    await pubsub.drainer.drain_now()
    may_go_on.set()
    await opening
    assert not len(pubsub.part(Sessions)) and not pubsub.pubsub.registry
    assert pubsub._kept_alive_by == {pubsub.drainer} and not pubsub.connections


async def test_an_id_that_is_no_text_is_500_and_leaves_no_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BadSocket(PatientSocket):
        def id(self) -> Any:
            return 7

    assert await Client(BadSocket).open() == {"status": 500}
    assert "must return a string" in caplog.text
    assert not len(get_node().part(Sessions)) and not get_node().connections
