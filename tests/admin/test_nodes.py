"""The list of nodes, and how far a process sees."""

from __future__ import annotations

import os
import platform
from typing import Any

import django
import pytest

import phx_protocol
from phx_protocol.admin import nodes
from phx_protocol.introspection import NodeInfo
from phx_protocol.node.node import get_node
from tests.admin.conftest import Open, Staff, html, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]
PAGES = ["topic/", "topic/room_3Aa/change/", "connection/", "node/"]


async def test_a_node_is_listed_with_its_versions_and_load(
    open: Open, staff: Staff
) -> None:
    await open()
    page = await (await staff("view_node")).get("/admin/phx_protocol/node/")
    # not those of other loops, which other tests have left behind
    (node,) = [row for row in rows(page, "nodes") if row[0] == get_node().name]
    assert node[4] == "1"
    assert node[2] == str(os.getpid())
    assert node[5].endswith(" %")
    versions = [phx_protocol.__version__, django.__version__]
    assert [node[6], node[8], node[9]] == [*versions, platform.python_version()]


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([["a:1/0", "b:1/0"], ["b:1/0", "c:1/0"]], True),
        ([["a:1/0", "b:1/0"], ["a:1/0"]], True),
        ([["a:1/0", "b:1/0"]] * 2, False),
        # the only server, by two names
        ([["a:1/0"], ["localhost:1/0"]], False),
        # a process of an earlier version does not tell
        ([["a:1/0", "b:1/0"], []], False),
    ],
)
async def test_processes_with_different_servers_of_the_state_are_shown(
    staff: Staff, monkeypatch: pytest.MonkeyPatch, lists: list[list[str]], said: bool
) -> None:
    infos = [
        NodeInfo(f"node{n}", "web", n, 0.0, 1, "an address", servers=servers)
        for n, servers in enumerate(lists)
    ]
    monkeypatch.setattr(nodes, "list_nodes", lambda: infos)
    client = await staff("view_node")
    page = html(await client.get("/admin/phx_protocol/node/"))
    assert ("different servers of the state" in page) == said
    for servers in lists if said else ():
        assert f"on {', '.join(servers)}" in page


@pytest.mark.parametrize("address", PAGES)
async def test_a_process_that_sees_nothing_says_why(staff: Staff, address: str) -> None:
    client = await staff("view_topic", "view_connection", "view_node")
    page = html(await client.get(f"/admin/phx_protocol/{address}"))
    assert "Nothing can be shown here." in page
    assert "RedisLayer</code> in <code>CHANNEL_LAYERS" in page
    assert "No client has joined" not in page


@pytest.mark.parametrize("address", PAGES)
async def test_one_that_sees_itself_says_so(
    open: Open, staff: Staff, address: str
) -> None:
    await open("room:a")
    client = await staff("view_topic", "view_connection", "view_node")
    page = html(await client.get(f"/admin/phx_protocol/{address}"))
    assert "This process only" in page and "Nothing can be shown" not in page


async def test_with_redis_there_is_nothing_to_say(
    staff: Staff, settings: Any, redis_url: str
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "phx_protocol.layers.RedisLayer",
            "CONFIG": {"hosts": [redis_url], "prefix": "sight"},
        }
    }
    client = await staff("view_topic")
    page = html(await client.get("/admin/phx_protocol/topic/"))
    assert "phx-note" not in page and "No client has joined a topic." in page
