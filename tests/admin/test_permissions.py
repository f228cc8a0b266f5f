"""Permissions of pages and actions: users without them get 403, and see no link."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from phx_protocol import introspection as look
from phx_protocol.models import Connection, Node, OnlineUser, Topic
from tests.admin.conftest import Open, Staff, Visitor, html, joined, links

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]
APP = "/admin/phx_protocol/"
VIEWS = {
    "topic/": {"view_topic"},
    "topic/room_3Aa/change/": {"view_topic"},
    "topic/room_3Aa/history/": {"view_topic"},
    "topic/room_3Aa/broadcast/": {"view_topic", "broadcast_topic"},
    "topic/room_3Aa/close/": {"view_topic", "close_topic"},
    "connection/": {"view_connection"},
    "connection/x.1/disconnect/": {"view_connection", "disconnect_connection"},
    "connection/user/1/disconnect/": {"view_connection", "disconnect_connection"},
    "onlineuser/": {"view_onlineuser"},
    "node/": {"view_node"},
}
ALL = sorted(set().union(*VIEWS.values()))
ACTIONS = [address for address, needed in VIEWS.items() if len(needed) == 2]


@pytest.mark.parametrize("address", VIEWS)
async def test_each_page_needs_its_permissions(staff: Staff, address: str) -> None:
    needed = VIEWS[address]
    allowed = await staff(*needed)
    assert (await allowed.get(APP + address)).status_code == 200
    for missing in needed:
        others = await staff(*set(ALL) - {missing})
        for page in (await others.get(APP + address), await others.post(APP + address)):
            assert page.status_code == 403
            assert "room:a" not in html(page)
    assert not await LogEntry.objects.aexists()


@pytest.mark.parametrize("address", VIEWS)
async def test_a_user_who_is_not_staff_is_redirected_to_the_login(address: str) -> None:
    user = await User.objects.acreate(username="customer", is_superuser=True)
    visitor = Visitor()
    await visitor.client.aforce_login(user)
    page = await visitor.post(APP + address)
    assert page.status_code == 302 and "/admin/login/" in page["location"]


async def test_a_superuser_may_do_all_of_it() -> None:
    root = await User.objects.acreate(username="root", is_staff=True, is_superuser=True)
    visitor = Visitor()
    await visitor.client.aforce_login(root)
    for address in VIEWS:
        assert (await visitor.get(APP + address)).status_code == 200
    for model in (Topic, Connection, OnlineUser, Node):  # but there is nothing to add
        assert f"{model._meta.model_name}/add/" not in html(
            await visitor.get("/admin/")
        )


async def test_links_lead_only_where_one_may_go(open: Open, staff: Staff) -> None:
    await open("room:a", user="ada")
    topic = APP + "topic/room_3Aa/change/"
    for permission, address in [
        ("broadcast_topic", "/broadcast/"),
        ("close_topic", "/close/"),
        ("disconnect_connection", "/disconnect/"),
    ]:
        may = await staff("view_topic", "view_connection", permission)
        others = await staff(*set(ALL) - {permission})
        for page in (topic, APP + "connection/", APP + "connection/?user=1"):
            assert not [u for u in links(await others.get(page)) if address in u]
        assert [u for u in links(await may.get(topic)) if address in u]


async def test_the_index_lists_what_one_may_see(staff: Staff) -> None:
    models = ("topic", "connection", "onlineuser", "node")
    for model in models:
        index = html(await (await staff(f"view_{model}")).get("/admin/"))
        shown = [m for m in models if f"{APP}{m}/" in index]
        assert shown == [model]
    assert APP not in html(await (await staff()).get("/admin/"))
    actions = await staff("broadcast_topic", "close_topic", "disconnect_connection")
    assert APP + "topic/" not in html(await actions.get("/admin/"))


async def test_users_are_shown_only_with_the_permission_to_see_connections(
    open: Open, staff: Staff
) -> None:
    await open("room:a", user="ada")
    address = APP + "topic/room_3Aa/change/"
    page = html(await (await staff("view_topic")).get(address))
    assert 'data-rows="connections"' not in page and "websocket" not in page
    page = html(await (await staff("view_topic", "view_connection")).get(address))
    assert 'data-rows="connections"' in page and "websocket" in page


async def test_a_get_changes_nothing(open: Open, staff: Staff) -> None:
    room = await joined(open, "room:a", user="ada")
    client = await staff(*ALL)
    (socket,) = await look.alist_sockets()
    for address in (*ACTIONS, f"connection/{socket.id}/disconnect/"):
        sure = "?event=said&payload={}&confirmed=yes&post=yes"
        assert (await client.get(APP + address + sure)).status_code == 200
    await room.assert_reply(await room.push("anything", {}), "error")
    assert not await LogEntry.objects.aexists()


@pytest.mark.parametrize("address", ACTIONS)
async def test_an_action_without_the_csrf_token_is_refused(
    staff: Staff, address: str
) -> None:
    client = await staff(*ALL, enforce_csrf_checks=True)
    page = await client.post(
        APP + address, {"event": "said", "payload": "{}", "confirmed": "yes"}
    )
    assert page.status_code == 403
    assert "csrfmiddlewaretoken" in html(await client.get(APP + address))
    assert not await LogEntry.objects.aexists()
