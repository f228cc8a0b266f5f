"""Presence in one process: what channels, views and clients make of it."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from phx_protocol import AlreadyTracked, EncodeError, JoinDenied, NotTracked
from phx_protocol.testing import connect
from phx_protocol.testing.clients import TIMEOUT
from tests.presence.rooms import TOPIC, Enter, Merging, Plain, RoomSocket, Tab, enter

__all__ = ["enter"]


# --------------------------------------------------------- what a channel calls


async def test_a_tracked_presence_shows_on_every_tab_and_in_the_list(
    enter: Enter,
) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.push_state(ada.channel)
    await Plain.push_state(bob.channel)
    ref = await Plain.track(ada.channel, "ada", {"device": "phone"})
    for tab in (ada, bob):
        await tab.shows("ada")
        assert tab.shown.state["ada"]["metas"] == [{"device": "phone", "phx_ref": ref}]
    listed = await Plain.list(ada.channel)
    assert listed == await Plain.list("silent:1") == bob.shown.state
    assert await Plain.get("silent:1", "ada") == listed["ada"]
    assert await Plain.get(ada.channel, "bob") is None
    await Plain.untrack(ada.channel, "ada")
    await ada.shows()
    await bob.shows()
    assert await Plain.list("silent:1") == {}


async def test_keys_are_strings(enter: Enter) -> None:
    tab = await enter("a", "silent:1")
    await Plain.push_state(tab.channel)
    await Plain.track(tab.channel, 7, {})
    with pytest.raises(AlreadyTracked):
        await Plain.track(tab.channel, "7", {})
    await tab.shows("7")
    assert await Plain.get("silent:1", 7) == await Plain.get("silent:1", "7")
    await Plain.update(tab.channel, 7, {"a": 1})
    await Plain.untrack(tab.channel, 7)
    await tab.shows()


@pytest.mark.parametrize("key", ["__proto__", "", "ü\n☃", "a" * 1000])
async def test_a_key_may_be_any_string(enter: Enter, key: str) -> None:
    tab = await enter("a", "silent:1")
    await Plain.track(tab.channel, key, {"phx_ref": "ours wins"})
    await Plain.push_state(tab.channel)
    await tab.shows(key)
    (meta,) = tab.shown.state[key]["metas"]
    assert meta["phx_ref"] != "ours wins"


async def test_tracking_in_join_names_after_join(
    enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await connect(RoomSocket)
    with pytest.raises(JoinDenied):
        await socket.join("early")
    assert "do it in after_join" in caplog.text
    assert await Plain.list("early") == {}
    await socket.close()


async def test_a_topic_that_is_none_is_an_error() -> None:
    with pytest.raises(TypeError, match="a channel or a topic is wanted"):
        await Plain.list(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a channel or a topic is wanted"):
        await Plain.track(None, "key", {})  # type: ignore[arg-type]


# ------------------------------------------------------------ the channel's end


async def ended_by_leaving(tab: Tab) -> None:
    await tab.leave()


async def ended_by_its_socket(tab: Tab) -> None:
    await tab.socket.close()


async def ended_by_itself(tab: Tab) -> None:
    await tab.push("stop")


async def ended_badly_by_itself(tab: Tab) -> None:
    await tab.push("stop", {"reason": "boom"})


async def ended_by_a_crash(tab: Tab) -> None:
    await tab.push("crash")


@pytest.mark.parametrize(
    "end",
    [
        ended_by_leaving,
        ended_by_its_socket,
        ended_by_itself,
        ended_badly_by_itself,
        ended_by_a_crash,
    ],
)
async def test_presences_end_with_their_channel(enter: Enter, end: Any) -> None:
    watcher, tab = await enter("watcher"), await enter("ada")
    await Plain.track(tab.channel, "second", {})
    await Plain.track(tab.channel, "far", {}, topic="room:far")
    await Merging.track(tab.channel, "other", {}, topic="room:other")
    await watcher.shows("ada", "second", "watcher")
    await end(tab)
    await watcher.shows("watcher")
    # all at once, for all that one channel had
    assert sorted(watcher.shown.diffs[-1]["leaves"]) == ["ada", "second"]
    assert await Plain.list(TOPIC) == watcher.shown.state
    await watcher.listed(Plain, "room:far")
    await watcher.listed(Merging, "room:other")


async def test_a_second_join_replaces_the_presence(enter: Enter) -> None:
    watcher, tab = await enter("watcher"), await enter("ada")
    await watcher.shows("ada", "watcher")
    before = watcher.shown.refs()["ada"]
    await tab.join()
    await watcher.until(lambda: len(watcher.shown.diffs) == 4, "two more diffs")
    await watcher.shows("ada", "watcher")
    assert not watcher.shown.refs()["ada"] & before
    await tab.shows("ada", "watcher")
    assert tab.shown.state == watcher.shown.state == await Plain.list(TOPIC)


async def test_a_channel_that_has_ended_tracks_nobody(enter: Enter) -> None:
    watcher, tab = await enter("watcher"), await enter("ada")
    channel = tab.channel
    await tab.leave()
    assert await Plain.track(channel, "late", {}) == ""
    await tab.join()  # nor does it when its topic is joined again
    assert await Plain.track(channel, "late", {}) == ""
    await watcher.shows("ada", "watcher")


async def test_a_channel_that_has_ended_has_no_say_in_the_next_one(
    enter: Enter,
) -> None:
    tab = await enter("ada")
    channel = tab.channel
    await tab.join()
    await tab.listed(Plain, TOPIC, "ada")
    await Plain.untrack(channel)
    with pytest.raises(NotTracked):
        await Plain.update(channel, "ada", {})
    assert list(await Plain.list(TOPIC)) == ["ada"]


async def test_a_user_is_tracked_by_its_key_and_a_visitor_by_its_channel(
    enter: Enter,
) -> None:
    user = SimpleNamespace(pk=7, is_authenticated=True)
    phone = await enter("phone", "default:1", user=user)
    await enter("laptop", "default:1", user=user)
    visitor = await enter("visitor", "default:1", user=AnonymousUser())
    nobody = await enter("nobody", "default:1")
    keys = [visitor.channel.presence_key(), nobody.channel.presence_key()]
    await phone.shows("7", "7", *keys)
    assert len({"7", *keys}) == 3
    online = [meta["online_at"] for meta in phone.shown.state["7"]["metas"]]
    assert all(isinstance(at, int) and at > 1_700_000_000 for at in online)


async def test_a_meta_that_cannot_be_sent_costs_a_line_and_is_empty(
    enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    tab = await enter("ada")
    await tab.shows("ada")
    tab.topic = "broken"
    tab.events.clear()
    await tab.socket.send(["9", "9", "broken", "phx_join", {"name": "x"}])
    await tab.until(lambda: "presence_diff" in tab.events, "presence_diff")
    assert "phx_error" not in tab.events
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    ((meta,),) = [p["metas"] for p in (await Plain.list("broken")).values()]
    assert list(meta) == ["phx_ref"]


async def test_renamed_events_are_what_clients_listen_for(enter: Enter) -> None:
    tab = await enter("ada", "renamed:1")
    tab.names = ("who", "who_changed")
    await enter("bob", "renamed:1")
    await tab.until(lambda: tab.events.count("who_changed") == 2, "two diffs")
    assert tab.events == ["phx_reply", "who", "who_changed", "who_changed"]


async def test_a_v1_client_gets_presences_as_well(enter: Enter) -> None:
    ada = await enter("ada")
    socket = await connect(RoomSocket, {"vsn": "1.0.0"})
    join = '{"topic":"room:1","event":"phx_join","payload":{"name":"old"},"ref":"1"}'
    communicator = socket.communicator.asgi
    await communicator.send_input({"type": "websocket.receive", "text": join})

    async def received() -> Any:
        return json.loads((await communicator.receive_output(TIMEOUT))["text"])

    got = [await received() for _ in range(3)]
    assert [frame["event"] for frame in got] == [
        "phx_reply",
        "presence_state",
        "presence_diff",
    ]
    assert list(got[1]["payload"]) == ["ada"]
    assert list(got[2]["payload"]["joins"]) == ["old"]
    await ada.leave()
    left = await received()
    assert (left["event"], list(left["payload"]["leaves"])) == (
        "presence_diff",
        ["ada"],
    )
    await socket.close()


# -------------------------------------------------- no channel, threads, loops


async def test_a_topic_in_place_of_a_channel_is_a_presence_of_the_process(
    enter: Enter,
) -> None:
    tab = await enter("ada")
    await Plain.track(TOPIC, "worker", {"job": 1})
    await tab.shows("ada", "worker")
    with pytest.raises(AlreadyTracked):
        await Plain.track(TOPIC, "worker", {})
    await Plain.update(TOPIC, "worker", {"job": 2})
    await tab.until(lambda: len(tab.shown.diffs) == 3, "the update")
    await tab.leave()  # it is no part of any channel
    await tab.listed(Plain, TOPIC, "worker")
    await Plain.untrack(TOPIC)
    assert await Plain.list(TOPIC) == {}


async def test_topic_says_where_a_presence_is(enter: Enter) -> None:
    watcher, tab = await enter("watcher"), await enter("a", "silent:1")
    await Plain.track(tab.channel, "ada", {}, topic=TOPIC)
    await watcher.shows("ada", "watcher")
    assert await Plain.list("silent:1") == {}
    await Plain.update(tab.channel, "ada", {"a": 1}, topic=TOPIC)
    await tab.leave()
    await watcher.shows("watcher")


async def test_classes_of_different_names_never_meet(enter: Enter) -> None:
    tab = await enter("ada")
    await Merging.track(TOPIC, "other", {})
    assert list(await Plain.list(TOPIC)) == ["ada"]
    assert list(await Merging.list(TOPIC)) == ["other"]
    await tab.catch_up()
    await Merging.untrack(TOPIC)


async def test_a_key_that_no_wire_can_carry_is_an_error_and_no_silence(
    enter: Enter,
) -> None:
    await enter("ada")
    with pytest.raises((EncodeError, UnicodeError)):
        await asyncio.wait_for(Plain.track(TOPIC, "\ud800", {}), TIMEOUT)
    await asyncio.wait_for(Plain.track(TOPIC, "next", {}), TIMEOUT)
    assert sorted(await Plain.list(TOPIC)) == ["ada", "next"]
