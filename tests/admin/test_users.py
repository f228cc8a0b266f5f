"""The list of users who are online, and of what they have joined."""

from __future__ import annotations

import pytest

from phx_protocol.admin import users
from phx_protocol.testing import connect
from tests.admin.conftest import Open, SeatSocket, Staff, beaten, html, links, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]
LIST = "/admin/phx_protocol/onlineuser/"
ALL = ("view_onlineuser", "view_connection", "view_topic")


async def test_each_user_is_listed_once_with_all_topics(
    open: Open, staff: Staff
) -> None:
    await open("room:b", "room:a", user="ada")
    await open("room:a", "game:1", user="ada")
    await open(user="bob")
    page = await (await staff(*ALL)).get(LIST)
    ada, bob = rows(page, "users")
    assert (ada[0], ada[1], ada[4]) == ("ada", "2", "game:1 , room:a , room:b")
    assert (bob[0], bob[1], bob[4]) == ("bob", "1", "–")
    assert "2 users" in html(page)


async def test_links_lead_only_to_pages_that_one_may_see(
    open: Open, staff: Staff
) -> None:
    await open("room:a", user="ada")
    found = links(await (await staff(*ALL)).get(LIST))
    assert "/admin/phx_protocol/topic/room_3Aa/change/" in found
    assert any("/connection/?user=" in link for link in found)
    page = await (await staff("view_onlineuser")).get(LIST)
    assert not [
        link for link in links(page) if "/topic/" in link or "/connection/" in link
    ]
    assert "room:a" in html(page)


async def test_nobody_sees_users_without_the_permission(
    open: Open, staff: Staff
) -> None:
    await open(user="ada")
    page = await (await staff("view_connection")).get(LIST)
    assert page.status_code == 403


async def test_they_are_searched_by_name_and_by_topic(open: Open, staff: Staff) -> None:
    await open("room:a", user="ada")
    await open("game:1", user="bob")
    client = await staff(*ALL)
    for query, found in {"AD": ["ada"], "game": ["bob"], "": ["ada", "bob"]}.items():
        page = await client.get(f"{LIST}?q={query}")
        assert [row[0] for row in rows(page, "users")] == found
    assert "No user matches." in html(await client.get(f"{LIST}?q=eve"))


async def test_they_are_sorted_by_their_headings(open: Open, staff: Staff) -> None:
    for user in ("Bob", "ada", "ada", "eve"):
        await open(user=user)
    client = await staff(*ALL)
    orders = {
        "user": ["ada", "Bob", "eve"],
        "-user": ["eve", "Bob", "ada"],
        "-connections": ["ada", "Bob", "eve"],
        "since": ["Bob", "ada", "eve"],
        "-since": ["eve", "ada", "Bob"],
        "nonsense": ["ada", "Bob", "eve"],
    }
    for order, found in orders.items():
        page = await client.get(f"{LIST}?o={order}")
        assert [row[0] for row in rows(page, "users")] == found, order


async def test_of_many_topics_a_page_shows_some(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "TOPICS", 2)
    await open("room:1", "room:2", "room:3", user="ada")
    (ada,) = rows(await (await staff(*ALL)).get(LIST), "users")
    assert ada[4] == "room:1 , room:2 and 1 more"


async def test_when_nobody_is_online_the_page_says_so(staff: Staff) -> None:
    visitor = await connect(SeatSocket)
    await beaten()
    page = await (await staff(*ALL)).get(LIST)
    assert rows(page, "users") == [] and "Nobody is online." in html(page)
    await visitor.close()
