"""The list of nodes, and how far a process sees."""

from __future__ import annotations

import os
import platform
from typing import Any

import django
import pytest

import phx_protocol
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
