"""The list of connections, and disconnecting them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse

from phx_protocol import introspection as look
from phx_protocol.admin import connections
from phx_protocol.exceptions import BroadcastError
from tests.admin.conftest import Open, Staff, html, links, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]
LIST = "/admin/phx_protocol/connection/"
MAY = ("view_connection", "disconnect_connection")


def url(page: str, key: str) -> str:
    return reverse(f"admin:phx_protocol_connection_{page}", args=[key])


async def users(client: Any, query: str = "") -> list[str]:
    return [row[1] for row in rows(await client.get(LIST + query), "connections")]


async def test_connections_are_listed_whatever_they_have_joined(
    open: Open, staff: Staff
) -> None:
    await open(user="ada")
    await open("room:a", user="bob")
    client = await staff("view_connection")
    assert await users(client) == ["ada", "bob"]
    assert "2 connections" in html(await client.get(LIST))


async def test_they_are_searched_and_chosen_by_their_user(
    open: Open, staff: Staff
) -> None:
    await open(user="ada")
    await open(user="bob")
    await open(user="bob")
    client = await staff("view_connection")
    assert await users(client, "?q=BO") == ["bob", "bob"]
    assert await users(client, "?q=websocket+ada") == ["ada"]
    first, *_ = [s.id for s in await look.alist_sockets()]
    assert await users(client, f"?q={first}") == ["ada"]
    bob = await User.objects.aget(username="bob")
    page = await client.get(f"{LIST}?user={bob.pk}")
    assert len(rows(page, "connections")) == 2
    assert "<h1>Connections of bob</h1>" in html(page)
    page = await client.get(f"{LIST}?user=%3Cb%3E")
    assert "<h1>Connections of the user &lt;b&gt;</h1>" in html(page)
    assert "No connections." in html(page)


async def test_they_are_sorted_by_their_headings(open: Open, staff: Staff) -> None:
    await open("room:a", user="Bob")
    await open("room:a", user="ada")
    await open("room:a", user="eve")
    client = await staff("view_connection", "view_topic")
    opened = ["Bob", "ada", "eve"]
    assert await users(client) == await users(client, "?o=since") == opened
    assert await users(client, "?o=-since") == opened[::-1]
    assert await users(client, "?o=user") == ["ada", "Bob", "eve"]
    assert await users(client, "?o=-user") == ["eve", "Bob", "ada"]
    for order in ("node", "-transport", "seen", "-seen", "buffered"):
        assert sorted(await users(client, f"?o={order}")) == opened
    for unknown in ("action", "--user", "%00"):
        assert await users(client, f"?o={unknown}") == opened
    page = html(await client.get(f"{LIST}?o=-user&q=websocket"))
    assert 'class="sorted descending" aria-sort="descending"' in page
    assert "?o=user&amp;q=websocket" in page and "?o=since&amp;q=websocket" in page
    # the same table on the page of a topic
    topic = await client.get("/admin/phx_protocol/topic/room_3Aa/change/?o=-user")
    assert [row[1] for row in rows(topic, "connections")] == ["eve", "Bob", "ada"]


async def test_one_is_disconnected_after_it_was_confirmed(
    open: Open, staff: Staff
) -> None:
    ada, bob = await open("room:a", user="ada"), await open("room:a", user="bob")
    client = await staff("view_topic", *MAY)
    topic = "/admin/phx_protocol/topic/room_3Aa/change/"
    address, _ = [
        link for link in links(await client.get(topic)) if "disconnect" in link
    ]
    page = await client.get(address)
    (row,) = rows(page, "connections")
    assert row[1] == "ada" and "These connections" not in html(page)
    assert "This connection will be closed" in html(page)
    page = await client.post(address, follow=True)
    assert page.redirect_chain == [(topic, 302)]
    await ada.assert_closed(1001)
    (left,) = await look.alist_sockets()
    assert left.username == "bob"
    done = f"Disconnected the connection {row[0]} of ada."
    assert done in html(page)
    entry = await LogEntry.objects.aget()
    assert (entry.object_id, entry.change_message) == (row[0], done)
    await bob.close()


async def test_all_of_a_user_are_disconnected(open: Open, staff: Staff) -> None:
    one, two = await open("room:a", user="ada"), await open(user="ada")
    await open(user="bob")
    client = await staff(*MAY)
    ada = await User.objects.aget(username="ada")
    page = await client.get(f"{LIST}?user={ada.pk}")
    address = url("disconnect_user", str(ada.pk))
    assert address in links(page)
    page = await client.get(address)
    assert "<h1" in html(page) and "Disconnect 2 connections of ada?" in html(page)
    assert len(rows(page, "connections")) == 2
    page = await client.post(address, follow=True)
    await one.assert_closed(1001)
    await two.assert_closed(1001)
    assert await users(client) == ["bob"]
    assert "Disconnected 2 connections of ada." in html(page)
    entry = await LogEntry.objects.aget()
    assert entry.object_id == f"all of user {ada.pk}"
    assert entry.change_message == "Disconnected 2 connections of ada."
    # a connection has no page of its own, to which the recent actions could lead
    index = await client.get("/admin/")
    assert f"all of user {ada.pk}" in html(index)


async def test_one_that_is_gone_is_said_to_be(open: Open, staff: Staff) -> None:
    await open()
    client = await staff(*MAY)
    page = html(await client.get(url("disconnect", "gone")))
    assert "No such connection is known" in page


@pytest.mark.parametrize(
    "topic", ["", "room_3Aa", "two_0Alines", "//evil.example/", "%0A"]
)
async def test_the_way_back_stays_in_the_admin(staff: Staff, topic: str) -> None:
    client = await staff(*MAY)
    page = await client.post(url("disconnect", "gone") + f"?topic={topic}")
    assert page.status_code == 302
    assert page["location"].startswith("/admin/phx_protocol/")


async def test_an_action_that_the_layer_did_not_accept_is_shown_and_logged(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disconnect_user(*_: Any) -> None:
        raise BroadcastError("the channel layer did not take it")

    monkeypatch.setattr(connections, "disconnect_user", disconnect_user)
    client = await staff(*MAY)
    page = await client.post(url("disconnect_user", "5"), follow=True)
    message = (
        "Disconnected 0 connections of the user 5. "
        "But this failed: the channel layer did not take it."
    )
    assert message in html(page)
    assert (await LogEntry.objects.aget()).change_message == message
