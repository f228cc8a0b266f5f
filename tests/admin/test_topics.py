"""The list of topics and the page of one, as Django's test client gets them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin

from phx_protocol import Presence, abroadcast
from phx_protocol import introspection as look
from phx_protocol.admin import topics
from phx_protocol.admin.urls import address_of
from phx_protocol.exceptions import BroadcastError, StateError
from phx_protocol.testing import connect
from tests.admin.conftest import (
    Open,
    SeatSocket,
    Staff,
    html,
    joined,
    links,
    rows,
    text,
)
from tests.test_layout import PACKAGE

DISCONNECT = ("view_connection", "disconnect_connection")
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]
LIST = "/admin/phx_protocol/topic/"


def url(page: str, topic: str) -> str:
    return reverse(f"admin:phx_protocol_topic_{page}", args=[address_of(topic)])


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


async def names(client: Any, query: str = "") -> list[str]:
    return [row[0] for row in rows(await client.get(LIST + query), "topics")]


async def test_a_search_finds_topics_with_all_its_words_in_any_case(
    open: Open, staff: Staff
) -> None:
    await open("room:Straße", "room:b", "doc:b")
    client = await staff("view_topic")
    assert await names(client, "?q=STRASSE") == ["room:Straße"]
    assert await names(client, "?q=b+room") == ["room:b"]
    assert await names(client, "?q=%25") == []
    assert "No topic matches." in html(await client.get(LIST + "?q=nowhere"))


async def test_the_list_is_sorted_as_its_headings_offer(
    open: Open, staff: Staff
) -> None:
    await open("b:crowd", "a:pair")
    await open("b:crowd", "a:pair")
    await open("b:crowd")
    loud = await joined(open, "c:loud")
    for _ in range(50):
        await loud.push("nonsense", {})
    client = await staff("view_topic")
    by_name = ["a:pair", "b:crowd", "c:loud"]
    assert await names(client) == by_name
    assert await names(client, "?o=-topic") == by_name[::-1]
    assert await names(client, "?o=-subscribers") == ["b:crowd", "a:pair", "c:loud"]
    assert await names(client, "?o=subscribers") == ["c:loud", "a:pair", "b:crowd"]
    assert (await names(client, "?o=-rate"))[0] == "c:loud"
    assert await names(client, "?o=presences") == by_name  # not offered

    page = html(await client.get(LIST + "?o=-subscribers&q=a"))
    assert 'class="sorted descending" aria-sort="descending"' in page
    assert "?o=subscribers&amp;q=a" in page and "?o=topic&amp;q=a" in page


async def test_only_the_topics_of_the_page_that_is_shown_are_asked_about(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def describe_topics(topics: list[str]) -> Any:
        asked.append(topics)
        return describe(topics)

    describe = look.describe_topics
    monkeypatch.setattr(look, "describe_topics", describe_topics)
    monkeypatch.setattr("phx_protocol.admin.listing.ROWS", 2)
    await open("a", "b", "c", "d", "e")
    client = await staff("view_topic")
    assert await names(client) == ["a", "b"]
    assert await names(client, "?p=3") == ["e"]
    assert await names(client, "?p=99") == ["e"]
    assert await names(client, "?p=x") == ["a", "b"]
    assert asked == [["a", "b"], ["e"], ["e"], ["a", "b"]]
    assert "5 topics" in html(await client.get(LIST))


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


@pytest.mark.parametrize(
    "event, payload, message",
    [
        ("", "{}", "This field is required."),
        ("e" * 1025, "{}", "at most 1024 characters"),
        ("said", "", "This field is required."),
        ("said", '{\r\n  "a": 1,\r\n  "b": x}', "in line 3, column 8"),
        ("said", '{"é": x}', "in line 1, column 7"),
        ("said", '{"a": 1', "not JSON"),
        ("said", '{"a": NaN}', "not JSON"),
        ("said", "[1]", "must be a JSON object"),
        ("said", "null", "must be a JSON object"),
    ],
)
async def test_a_broadcast_that_is_wrong_is_told_where(
    staff: Staff, event: str, payload: str, message: str
) -> None:
    client = await staff("view_topic", "broadcast_topic")
    typed = {"event": event, "payload": payload, "confirmed": "yes"}
    page = await client.post(url("broadcast", "room:a"), typed)
    assert message in " ".join(
        error for errors in page.context["form"].errors.values() for error in errors
    )
    assert page.context["form"]["event"].value() == event
    assert page.context["form"]["payload"].value() == payload
    assert not await LogEntry.objects.aexists()


@pytest.mark.parametrize("topic", ["room:a", "users:ada"])
@pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply", "phx_"])
async def test_no_event_of_the_protocol_is_broadcast(
    open: Open, staff: Staff, topic: str, event: str
) -> None:
    room = await joined(open, topic)
    client = await staff("view_topic", "broadcast_topic", *DISCONNECT)
    typed = {"event": event, "payload": "{}", "confirmed": "yes"}
    page = await client.post(url("broadcast", topic), typed)
    (error,) = page.context["form"].errors["event"]
    assert "the protocol's own" in error
    await room.refute_push(event)
    assert not await LogEntry.objects.aexists()


class NamedSocket(SeatSocket):
    def id(self) -> str | None:
        return "seat of ada"


async def test_who_may_not_disconnect_broadcasts_no_disconnect(staff: Staff) -> None:
    ada = await connect(NamedSocket)
    typed = {"event": "disconnect", "payload": "{}", "confirmed": "yes"}
    for others in ((), DISCONNECT[:1]):
        client = await staff("view_topic", "broadcast_topic", *others)
        page = await client.post(url("broadcast", "seat of ada"), typed)
        assert "may not do" in page.context["form"].errors["event"][0]
    assert not await LogEntry.objects.aexists()
    await ada.join("room:still")
    client = await staff("view_topic", "broadcast_topic", *DISCONNECT)
    await client.post(url("broadcast", "seat of ada"), typed)
    await ada.assert_closed(1001)
    assert await LogEntry.objects.acount() == 1
    await ada.close()


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


async def test_a_broadcast_that_is_not_as_declared_goes_to_nobody(
    open: Open, staff: Staff
) -> None:
    room = await joined(open, "room:a")
    client = await staff("view_topic", "broadcast_topic")
    typed = {"event": "counted", "payload": '{"free": "many"}', "confirmed": "yes"}
    page = await client.post(url("broadcast", "room:a"), typed)
    (error,) = page.context["form"].non_field_errors()
    assert error.startswith("counted was not broadcast: SeatChannel.pushes['counted']")
    assert "$.free: Expected `int`, got `str`" in error
    await room.refute_push("counted")
    assert "But this failed" in (await LogEntry.objects.aget()).change_message
    typed["payload"] = '{"free": 3}'
    await client.post(url("broadcast", "room:a"), typed)
    await room.assert_push("counted", {"free": 3})


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


# ------------------------------------------------------------------- in a page


class WithNonce(MiddlewareMixin):
    """As django-csp, and with another name Django itself."""

    def process_request(self, request: Any) -> None:
        request.csp_nonce = "r4nd0m"


async def test_every_script_of_ours_has_the_nonce_of_the_request(
    staff: Staff, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.WithNonce"]
    client = await staff("view_topic")
    for address in (LIST, url("change", "room:a")):
        page = html(await client.get(address))
        ours = re.findall(r"<script[^>]*phx_protocol/[^>]*>", page)
        assert ours and all('nonce="r4nd0m"' in script for script in ours)


def test_no_template_has_a_script_without_a_nonce() -> None:
    for template in (PACKAGE / "templates").rglob("*.html"):
        for script in re.findall("<script.*?>", template.read_text()):
            assert "{% phx_nonce_attribute %}" in script, template
