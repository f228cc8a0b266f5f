"""The list of topics and the page of one, as Django's test client gets them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry

from phx_protocol import Presence, abroadcast
from phx_protocol import introspection as look
from phx_protocol.admin import topics
from phx_protocol.exceptions import BroadcastError, StateError
from phx_protocol.node.node import get_node
from tests.admin.conftest import Open, Staff, html, joined, links, rows, text
from tests.admin.pages import LIST, url

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]


# -------------------------------------------------------------------- the list


async def test_a_topic_is_listed_with_what_is_known_of_it(
    open: Open, staff: Staff
) -> None:
    await open("room:a", "room:b", user="ada")
    await open("room:b", user="bob")
    page = await (await staff("view_topic")).get(LIST)
    listed = rows(page, "topics")
    channel = "tests.admin.conftest.SeatChannel"
    assert [row[:4] for row in listed] == [
        ["room:a", channel, "1", "1"],
        ["room:b", channel, "2", "2"],
    ]
    assert all(re.fullmatch(r"\d+\.\d", row[4]) for row in listed)


# ------------------------------------------------------------- names of topics


@pytest.mark.parametrize(
    "topic",
    [
        "room:lobby",
        "a/b/../c",
        "100% _3A sure?#&;=+",
        "Größe ☕ 東京",
        " spaces  and\ttabs ",
        "two\nlines\r\nand more",
        '<script>alert("x")</script>',
        "..",
        ".",
        "~tilde",
        "x" * 1024,
        "ü" * 500,
    ],
)
async def test_any_topic_has_a_page(open: Open, staff: Staff, topic: str) -> None:
    await open(topic, "another")
    client = await staff("view_topic")
    (address,) = links(await client.get(LIST + "?q=" + quote(topic[:20])))[-1:]
    assert len(address) < 2000
    page = await client.get(address)
    assert page.status_code == 200
    assert page.context["topic"] == topic
    assert page.context["subscribers"] == 1


async def test_a_topic_that_nobody_has_joined_has_a_page_that_says_so(
    open: Open, staff: Staff
) -> None:
    await open("room:a")
    client = await staff("view_topic", "broadcast_topic")
    page = await client.get(url("change", "room:empty"))
    assert "No client has joined this topic." in html(page)
    # for it may have a history, and processes that listen
    assert url("broadcast", "room:empty") in links(page)


async def test_the_digest_of_a_topic_that_is_gone_is_not_found(staff: Staff) -> None:
    client = await staff("view_topic")
    assert (await client.get(url("change", "~gone"))).status_code == 404


async def test_hostile_names_are_text(open: Open, staff: Staff) -> None:
    hostile = "<script>alert(1)</script>"
    await open(f"room:{hostile}", user=f'<img src=x onerror="{hostile}">')
    client = await staff("view_topic", "view_connection", "close_topic")
    for address in (
        LIST,
        LIST + "?q=%3Cscript%3E&o=%3Cscript%3E",
        url("change", f"room:{hostile}"),
        url("close", f"room:{hostile}"),
        "/admin/phx_protocol/connection/?q=%3Cscript%3E",
    ):
        page = html(await client.get(address))
        assert "<script>" not in page and "<img src=x" not in page
        assert "script&gt;" in page


# ------------------------------------------------------------------- its page


async def test_the_page_shows_connections_presences_and_the_history(
    open: Open, staff: Staff
) -> None:
    ada = await open("room:page", user="ada")
    await open("room:b", user="bob")
    await Presence.track("room:page", "worker", {"says": "<b>hi</b> & bye"})
    await abroadcast("room:page", "said", {})
    client = await staff("view_topic", "view_connection")
    page = await client.get(url("change", "room:page"))
    (connection,) = rows(page, "connections")
    assert connection[1] == "ada" and connection[3] == "websocket"
    assert re.fullmatch(r"[0-3] s ago", connection[5])
    assert connection[6].startswith("0")
    present = {row[0]: row[1:] for row in rows(page, "presences")}
    assert present["worker"][0] == "1"
    assert "&lt;b&gt;hi&lt;/b&gt; &amp; bye" in present["worker"][1]
    assert len(present) == 2
    facts = text(html(page))
    assert "Kept 1 of at most 5 For 60 seconds Events said Offset" in facts
    await Presence.untrack("room:page", "worker")
    await ada.close()


async def test_the_page_shows_how_long_changes_take(open: Open, staff: Staff) -> None:
    await open("room:page")
    client = await staff("view_topic")
    page = await client.get(url("change", "room:page"))
    assert "From commit to delivery" not in html(page)
    for seconds in (0.004, 0.005, 0.123):
        get_node().pubsub.latencies.add("room:page", seconds)
    page = await client.get(url("change", "room:page"))
    said = "From commit to delivery median: 5 ms, 95 %: 123 ms, 99 %: 123 ms"
    assert said in text(html(page))


async def test_presences_beyond_a_hundred_are_counted(open: Open, staff: Staff) -> None:
    await open()
    for n in range(103):
        await Presence.track("room:full", f"key {n}", {})
    page = await (await staff("view_topic")).get(url("change", "room:full"))
    assert len(rows(page, "presences")) == 100
    assert "And 3 more." in html(page)
    for n in range(103):
        await Presence.untrack("room:full", f"key {n}")


async def test_it_says_when_a_node_tells_only_of_some_connections(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open("room:a")
    client = await staff("view_topic", "view_connection")
    assert "at the most" not in html(await client.get(url("change", "room:a")))
    monkeypatch.setattr("phx_protocol.admin.connections.LIMIT", 1)
    page = html(await client.get(url("change", "room:a")))
    assert "A node tells of 1 connections at the most" in page


# ----------------------------------------------------------------- broadcasts


async def test_a_broadcast_is_confirmed_sent_and_logged(
    open: Open, staff: Staff
) -> None:
    room = await joined(open, "room:a")
    client = await staff("view_topic", "broadcast_topic")
    address = url("broadcast", "room:a")
    typed = {"event": "said", "payload": '{"body":\r\n "<b>"}'}
    page = await client.post(address, typed)
    assert "<strong>1 client</strong> on this topic will get this" in html(page)
    assert "&lt;b&gt;" in html(page)
    assert not await LogEntry.objects.aexists()

    page = await client.post(address, {**typed, "edit": "Change it"})
    assert page.context["form"]["payload"].value() == typed["payload"]

    page = await client.post(address, {**typed, "confirmed": "yes"}, follow=True)
    await room.assert_push("said", {"body": "<b>"})
    assert "Broadcast said on room:a." in html(page)
    entry = await LogEntry.objects.select_related("content_type").aget()
    assert (entry.object_id, str(entry.content_type)) == (
        "room:a",
        "Phoenix Channels | topic",
    )
    assert entry.change_message == 'Broadcast said: {"body":"<b>"}'
    assert entry.get_admin_url() == url("change", "room:a")
    history = await client.get(url("history", "room:a"))
    assert "Broadcast said: {&quot;body&quot;:&quot;&lt;b&gt;&quot;}" in html(history)


async def test_a_broadcast_that_the_layer_did_not_take_stays_in_the_form(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broadcast(*_: Any) -> None:
        raise BroadcastError("the channel layer did not take it")

    monkeypatch.setattr(topics, "broadcast", broadcast)
    client = await staff("view_topic", "broadcast_topic")
    typed = {"event": "said", "payload": "{}", "confirmed": "yes"}
    page = await client.post(url("broadcast", "room:a"), typed)
    error = "said did not reach all processes: the channel layer did not take it."
    assert error in html(page)
    # here it may have been delivered
    assert "But this failed" in (await LogEntry.objects.aget()).change_message


# -------------------------------------------------------------------- closing


async def test_a_topic_is_closed_after_it_was_confirmed(
    open: Open, staff: Staff
) -> None:
    room = await joined(open, "room:a")
    client = await staff("view_topic", "close_topic")
    page = await client.get(url("close", "room:a"))
    assert "<strong>1 client</strong> on this topic will end" in html(page)
    page = await client.post(url("close", "room:a"), follow=True)
    assert page.redirect_chain == [(url("change", "room:a"), 302)]
    await room.assert_ended()
    done = "Closed room:a, which 1 client had joined."
    assert done in html(page)
    assert (await LogEntry.objects.aget()).change_message == done


async def test_closing_a_topic_that_nobody_has_joined_is_no_error(
    staff: Staff,
) -> None:
    client = await staff("view_topic", "close_topic")
    assert "nothing to close" in html(await client.get(url("close", "room:none")))
    page = await client.post(url("close", "room:none"), follow=True)
    assert "which 0 clients had joined" in html(page)


# ------------------------------------------------------------------- failures


async def test_one_page_says_that_the_state_cannot_be_reached(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_topics() -> Any:
        raise StateError("Redis is <away>")

    monkeypatch.setattr(look, "list_topics", list_topics)
    client = await staff("view_topic", "close_topic")
    for address in (LIST, url("change", "room:a"), url("close", "room:a")):
        page = await client.get(address)
        assert page.status_code == 503
        assert "Redis is &lt;away&gt;" in html(page)
