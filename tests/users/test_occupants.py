"""The users and topics of one node, and the signals when they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import StateError
from phx_protocol.node.node import Node, get_node
from phx_protocol.state.occupancy import TOPIC
from phx_protocol.users.occupants import Occupants
from tests.users.people import Connection, Subscriber
from tests.users.told import Told, told

__all__ = ["told"]

TRACKED: dict[str, Any] = {
    "TRACK_USERS": True,
    "TRACK_TOPICS": ["room:*"],
    "OFFLINE_AFTER": 0.000_001,
}


@pytest.fixture(autouse=True)
async def _all_is_tracked() -> AsyncIterator[None]:
    with override_settings(PHX_PROTOCOL=TRACKED):
        await get_node().heartbeat.ready()
        yield


async def test_the_first_connection_and_the_last_one_of_a_user_are_told(
    told: Told,
) -> None:
    node = get_node()
    tabs = [Connection(node, 7), Connection(node, 7)]
    await told.until(("user_online", "7"))
    tabs[0].close()
    tabs[1].close()
    await told.until(("user_online", "7"), ("user_offline", "7"))
    assert len(set(told.ids)) == 2


async def test_a_topic_is_told_of_if_a_pattern_names_it(told: Told) -> None:
    pubsub, client = get_node().pubsub, Subscriber()
    for topic in ("lobby", "room:1"):
        pubsub.subscribe(topic, client)
    await told.until(("topic_occupied", "room:1"))
    for topic in ("lobby", "room:1"):
        pubsub.unsubscribe(topic, client)
    await told.until(("topic_occupied", "room:1"), ("topic_vacated", "room:1"))


async def test_a_process_that_only_listens_does_not_occupy_a_topic(told: Told) -> None:
    pubsub, listener, client = get_node().pubsub, Subscriber(), Subscriber()
    listener.fastlane = None  # type: ignore[assignment]
    pubsub.subscribe("room:1", listener)
    pubsub.subscribe("room:2", client)
    await told.until(("topic_occupied", "room:2"))


async def test_who_comes_back_in_time_has_not_left(told: Told) -> None:
    with override_settings(PHX_PROTOCOL={**TRACKED, "OFFLINE_AFTER": 2.5}):
        node = get_node()
        tab = Connection(node, 7)
        await told.until(("user_online", "7"))
        tab.close()
        await node.heartbeat.beat()
        tab = Connection(node, 7)
        await node.heartbeat.beat()
        other = Connection(node, 8)
        await told.until(("user_online", "7"), ("user_online", "8"))
        other.close()
        await told.until(
            ("user_online", "7"), ("user_online", "8"), ("user_offline", "8")
        )


async def test_the_node_of_the_last_user_stays_until_that_is_told(told: Told) -> None:
    with override_settings(PHX_PROTOCOL={**TRACKED, "OFFLINE_AFTER": 2}):
        node = get_node()
        tab = Connection(node, 7)
        await told.until(("user_online", "7"))
        tab.close()
        await node.heartbeat.beat()
        assert node._is_needed
        await told.until(("user_online", "7"), ("user_offline", "7"))
        async with asyncio.timeout(10):
            while node._is_needed:
                await asyncio.sleep(0.05)


async def test_a_topic_that_was_left_while_the_state_failed_is_written_when_it_comes_back(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, client = get_node(), Subscriber()
    node.pubsub.subscribe("room:1", client)
    await told.until(("topic_occupied", "room:1"))

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    with monkeypatch.context() as away:
        away.setattr(node.heartbeat.state, "beat", fails)
        await node.heartbeat.beat()
        node.pubsub.unsubscribe("room:1", client)
        await node.heartbeat.stop()
    node.pubsub.subscribe("room:1", client)
    await node.heartbeat.ready()
    await node.heartbeat.beat()
    assert (await node.heartbeat.state.occupancy(TOPIC).look(["room:1"], 0.0))[
        0
    ].is_here


async def test_a_user_may_have_any_primary_key(told: Told) -> None:
    node, keys = get_node(), ["", "a b", "☃\n", "0"]
    tabs = [Connection(node, key) for key in keys]
    await told.until(*(("user_online", key) for key in keys))
    for tab in tabs:
        tab.close()
    async with asyncio.timeout(20):
        while len(told.said) < 2 * len(keys):
            await asyncio.sleep(0.01)
    assert sorted(told.said[len(keys) :]) == sorted(("user_offline", k) for k in keys)


async def test_what_is_not_tracked_is_not_told(told: Told) -> None:
    with override_settings(PHX_PROTOCOL={}):
        node = Node()
        assert node.part(Occupants)._kinds == []
        node.pubsub.subscribe("room:1", Subscriber())
        Connection(node, 7)
        await node.heartbeat.ready()
        await node.heartbeat.beat()
        await node.close()
    assert told.said == []
