"""Closing connections by the name that ``Socket.id()`` gives them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import Socket, adisconnect
from phx_protocol.exceptions import ConnectionRefused
from phx_protocol.node.node import get_node
from phx_protocol.testing import connect
from phx_protocol.wire.reasons import CloseCode


class NamedSocket(Socket):
    async def connect(self, params: dict[str, Any]) -> None:
        self.assigns["name"] = params.get("name")

    def id(self) -> Any:
        return self.assigns["name"]


class SlowSocket(NamedSocket):
    asked, answers = asyncio.Event(), asyncio.Event()

    async def id(self) -> Any:
        self.asked.set()
        await self.answers.wait()
        return self.assigns["name"]


async def test_all_of_one_name_are_closed_and_no_other() -> None:
    ada, also, bob = [
        await connect(NamedSocket, {"name": name}) for name in ("ada", "ada", "bob")
    ]
    nameless = await connect(NamedSocket)
    await adisconnect("ada")
    for client in (ada, also):
        await client.assert_closed(CloseCode.DISCONNECTED)
    for client in (bob, nameless):
        await client.settled()
        assert client.close_code is None
        await client.close()


async def test_a_name_that_is_not_known_yet_is_disconnected_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SlowSocket, "asked", asyncio.Event())
    monkeypatch.setattr(SlowSocket, "answers", asyncio.Event())
    opening = asyncio.create_task(connect(SlowSocket, {"name": "ada"}))
    await SlowSocket.asked.wait()
    await adisconnect("ada")
    SlowSocket.answers.set()
    client = await opening
    await client.assert_closed(CloseCode.DISCONNECTED)


async def test_the_subscription_ends_with_the_connection() -> None:
    client = await connect(NamedSocket, {"name": "ada"})
    registry = get_node().pubsub.registry
    assert "ada" in registry
    await client.close()
    assert "ada" not in registry


@pytest.mark.parametrize("wrong", [5, b"ada", ["ada"]])
async def test_a_name_that_is_no_text_is_refused(wrong: Any) -> None:
    class WrongSocket(NamedSocket):
        def id(self) -> Any:
            return wrong

    with pytest.raises((TypeError, ConnectionRefused)):
        await connect(WrongSocket, wire=False)
