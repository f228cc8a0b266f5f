"""Topics are the clients' to choose: none of them is the name of something that nodes use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from phx_protocol import Socket
from phx_protocol.exceptions import BroadcastError
from phx_protocol.node.node import Node, get_node
from phx_protocol.node.rpc import NODES
from phx_protocol.pubsub import groups
from phx_protocol.pubsub.message import group_name
from phx_protocol.pubsub.serving import mount_socket
from phx_protocol.testing import connect
from phx_protocol.wire.messages import Broadcast
from tests.support.nodes import LAYERS
from tests.support.rooms import OpenRoom


class OpenSocket(Socket):
    channels = {"*": OpenRoom}

    def id(self) -> str | None:
        return "users:1"


@pytest.fixture(params=LAYERS)
async def other(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    """Another process, on a layer that this one is on as well."""
    backend = {"BACKEND": LAYERS[request.param], "CONFIG": {"hosts": [redis_url]}}
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        node = Node()
        yield node
        await node.close()
        await get_node().close()


TOPICS = [
    *("phx:nodes", "phx.nodes", "nodes", "phoenix", "users:1", "disconnect"),
    *(str(NODES), group_name(NODES), group_name("users:1")),
]


@pytest.mark.parametrize("order", ["disconnect_socket", "id"])
async def test_a_client_that_joins_and_leaves_makes_no_node_deaf(
    other: Node, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "LINGER", 0)
    socket, node = await connect(OpenSocket), get_node()
    for topic in TOPICS:
        await (await socket.join(topic)).leave()
    node.link.groups.sweep(node.loop.time())
    await node.link.settled()
    if order == "id":
        await other.pubsub.publish(Broadcast("users:1", "disconnect", Raw(b"{}")), None)
    else:
        [key] = [known.key for known in node.connections]
        await other.commands.send(order, {"id": key})
    await socket.assert_closed(1001)


@given(st.text())
def test_no_topic_has_an_internal_group(topic: str) -> None:
    assert topic != NODES and group_name(topic) != group_name(NODES)


@pytest.mark.parametrize("serves", [True, False])
async def test_an_order_waits_for_no_process_that_serves_no_sockets(
    other: Node, serves: bool
) -> None:
    """A worker that tracked presences, say, and is gone: its lease lasts for a while."""
    if serves:
        mount_socket(OpenSocket)
    about = {**other.heartbeat._about("specific.gone!channel"), "node": "gone"}
    await other.heartbeat.state.beat("gone", about, first=True)
    try:
        order = other.commands.send("disconnect_socket", {"id": "nobody.1"})
        if serves:
            with pytest.raises(BroadcastError, match=r"not done \(yet\) by gone"):
                await order
        else:
            await order
    finally:
        await other.heartbeat.state.leave("gone")
