"""The messages of a topic as an operator's page gets them."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import pytest
from django.test import AsyncClient, override_settings

from phx_protocol import abroadcast
from phx_protocol.admin import tail
from phx_protocol.node.node import get_node
from tests.admin.conftest import Open, Staff, Visitor, html, joined
from tests.admin.pages import url

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]


def messages(chunk: bytes) -> list[dict[str, Any]]:
    assert chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")
    return list(json.loads(chunk[6:])["messages"])


def asynchronous(visitor: Visitor) -> AsyncClient:
    """The same visitor, of an ASGI server."""
    client = AsyncClient()
    client.cookies = visitor.client.cookies
    return client


async def test_what_is_broadcast_comes_as_it_is_sent() -> None:
    async with aclosing(tail.stream("room:a")) as stream:
        assert await anext(stream) == b": listening\n\n"
        await abroadcast("room:a", "said", {"body": "hi <b>\u2028"})
        await abroadcast("room:b", "said", {"body": "elsewhere"})
        (message,) = messages(await anext(stream))
        assert message["event"] == "said"
        assert message["payload"] == r'{"body":"hi <b>\u2028"}'
        await abroadcast("room:a", "picture", b"\x00" * 10)
        assert messages(await anext(stream))[0]["payload"] == "<10 bytes>"


async def test_it_shows_no_more_than_the_log_would() -> None:
    async with aclosing(tail.stream("room:a")) as stream:
        await anext(stream)
        payload = {"token": "secret", "deep": [{"password": "secret"}], "x": "y" * 2000}
        await abroadcast("room:a", "said", payload)
        shown = messages(await anext(stream))[0]["payload"]
        assert "secret" not in shown and shown.count("[FILTERED]") == 2
        assert len(shown) <= tail.SHOWN + 3
        await abroadcast("room:a", "said", {"x": "y" * 40_000})
        assert messages(await anext(stream))[0]["payload"] == "<40008 bytes of JSON>"
        with override_settings(PHX_PROTOCOL={"FILTER_PARAMETERS": {"keep": ["room"]}}):
            await abroadcast("room:a", "said", {"room": "lobby", "by": "ada"})
            shown = messages(await anext(stream))[0]["payload"]
            assert shown == '{"room":"lobby","by":"[FILTERED]"}'


async def test_of_what_is_too_much_it_tells_the_number() -> None:
    async with aclosing(tail.stream("room:a")) as stream:
        await anext(stream)
        for n in range(tail.PORTION + 7):
            await abroadcast("room:a", "said", {"n": n})
        portion = json.loads((await anext(stream))[6:])
        assert len(portion["messages"]) == tail.PORTION and portion["left_out"] == 7


async def test_a_stream_that_nobody_reads_any_more_listens_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "ALIVE", 0.01)
    async with aclosing(tail.stream("room:empty")) as stream:
        await anext(stream)
        assert "room:empty" in get_node().pubsub.registry
        assert await anext(stream) == b": nothing yet\n\n"
        monkeypatch.setattr(tail, "LONGEST", 0.0)
    assert "room:empty" not in get_node().pubsub.registry and not tail._streams
    async with aclosing(tail.stream("room:empty")) as stream:
        assert [chunk async for chunk in stream] == [b": listening\n\n"]
    assert not tail._streams


async def test_its_page_streams_it_to_who_may_listen(open: Open, staff: Staff) -> None:
    await joined(open, "room:a")
    client = asynchronous(await staff("view_topic", "listen_topic"))
    assert url("tail", "room:a") in html(await client.get(url("change", "room:a")))
    response: Any = await client.get(url("tail", "room:a"))
    assert response["Content-Type"] == "text/event-stream"
    stream = aiter(response.streaming_content)
    assert await anext(stream) == b": listening\n\n"
    await abroadcast("room:a", "said", {"body": "hi"})
    assert messages(await anext(stream))[0]["payload"] == '{"body":"hi"}'
    await stream.aclose()
    for permissions in (["view_topic"], ["listen_topic"]):
        other = asynchronous(await staff(*permissions))
        assert (await other.get(url("tail", "room:a"))).status_code == 403
        page = await other.get(url("change", "room:a"))
        assert url("tail", "room:a") not in html(page)


async def test_only_so_many_listen_to_one_process_and_none_over_wsgi(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    await joined(open, "room:a")
    visitor = await staff("view_topic", "listen_topic")
    assert (await visitor.get(url("tail", "room:a"))).status_code == 501
    assert url("tail", "room:a") not in html(await visitor.get(url("change", "room:a")))
    monkeypatch.setattr(tail, "MOST", 0)
    client = asynchronous(visitor)
    assert (await client.get(url("tail", "room:a"))).status_code == 503
