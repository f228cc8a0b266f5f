"""Presence in one process: what channels, views and clients make of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser

from phx_protocol import (
    AlreadyTracked,
    Channel,
    EncodeError,
    JoinDenied,
    NotTracked,
    Presence,
    Socket,
    event,
)
from phx_protocol.exceptions import StateError
from phx_protocol.node.node import get_node
from phx_protocol.presence.entries import Entry
from phx_protocol.presence.tracker import Trackers
from phx_protocol.state.memory import MemoryState
from phx_protocol.testing import TestSocket, connect
from phx_protocol.testing.clients import TIMEOUT

from .tab import Shown

TOPIC = "room:1"


class Plain(Presence):
    """One diff a change."""

    diff_interval = 0


class Merging(Presence):
    diff_interval = 0.25


class Named(Presence):
    """Knows more of everybody; what it is asked waits for a gate if there is one."""

    diff_interval = 0
    asked: list[list[str]] = []
    told: list[tuple[list[str], list[str], list[str]]] = []
    gates: dict[str, asyncio.Event] = {}
    crashes = False

    async def fetch(self, topic: str, presences: Any) -> Any:
        type(self).asked.append(sorted(presences))
        if self.crashes:
            raise LookupError("no names today")
        for key in presences:
            if key in self.gates:
                await self.gates[key].wait()
        return {k: {**p, "name": k.upper()} for k, p in presences.items()}

    async def handle_metas(
        self, topic: str, joins: Any, leaves: Any, presences: Any
    ) -> None:
        type(self).told.append((sorted(joins), sorted(leaves), sorted(presences)))


class FromDatabase(Presence):
    diff_interval = 0

    def fetch(self, topic: str, presences: Any) -> Any:
        names = dict(
            get_user_model()
            .objects.filter(pk__in=presences)
            .values_list("pk", "username")
        )
        return {k: {**p, "name": names[int(k)]} for k, p in presences.items()}


class Renamed(Presence):
    diff_interval = 0
    state_event = "who"
    diff_event = "who_changed"


class Base(Channel):
    """The tests call Presence with the channels that were joined, by the names of their clients."""

    joined: dict[str, Base] = {}

    async def join(self, payload: Any) -> Any:
        self.assigns["name"] = payload.get("name", "")
        return "ok"

    async def after_join(self) -> None:
        Base.joined[self.assigns["name"]] = self

    @event("crash")
    async def crash(self, payload: Any) -> Any:
        raise RuntimeError("crash")

    @event("stop")
    async def stop_now(self, payload: Any) -> Any:
        await self.stop(payload.get("reason", "normal"))


class Silent(Base):
    """Tracks nobody by itself."""


class PlainChannel(Base):
    presence: Any = Plain

    def presence_key(self) -> str:
        return str(self.assigns["name"])

    def presence_meta(self) -> dict[str, Any]:
        return {"of": self.assigns["name"]}


class MergingChannel(PlainChannel):
    presence = Merging


class NamedChannel(PlainChannel):
    presence = Named


class DatabaseChannel(Base):
    presence = FromDatabase


class RenamedChannel(PlainChannel):
    presence = Renamed


class DefaultChannel(Base):
    presence = Plain


class TooEarly(Base):
    async def join(self, payload: Any) -> Any:
        await Plain.track(self, "ada", {})
        return "ok"


class Filtering(PlainChannel):
    intercepts = {"presence_diff"}

    async def handle_out(self, event: str, payload: Any) -> None:
        payload["joins"].pop("secret", None)
        await self.push(event, {**payload, "for": self.assigns["name"]})


class Broken(PlainChannel):
    def presence_meta(self) -> dict[str, Any]:
        return {"what": object()}


class RoomSocket(Socket):
    channels = {
        "room:*": PlainChannel,
        "silent:*": Silent,
        "merging:*": MergingChannel,
        "named:*": NamedChannel,
        "database:*": DatabaseChannel,
        "renamed:*": RenamedChannel,
        "default:*": DefaultChannel,
        "early": TooEarly,
        "filtering:*": Filtering,
        "broken": Broken,
    }


class Tab:
    """A client with phoenix.js's Presence; it reads every frame in the order they come."""

    def __init__(self, socket: TestSocket, topic: str, name: str) -> None:
        self.socket, self.topic, self.name = socket, topic, name
        self.shown = Shown()
        self.events: list[str] = []
        self.payloads: list[Any] = []
        self.names = ("presence_state", "presence_diff")

    async def join(self) -> None:
        """Join (again), and wait until the channel has done what it does after the join."""
        Base.joined.pop(self.name, None)
        self.shown.joins()
        join_ref = str(next(self.socket._refs))
        payload = {"name": self.name}
        await self.socket.send([join_ref, join_ref, self.topic, "phx_join", payload])
        await self.until(lambda: self.name in Base.joined, "after_join")

    async def push(self, event: str, payload: Any = None) -> None:
        join_ref = Base.joined[self.name].join_ref
        ref = str(next(self.socket._refs))
        await self.socket.send([join_ref, ref, self.topic, event, payload or {}])

    async def leave(self) -> None:
        await self.push("phx_leave")
        await self.until(lambda: "phx_close" in self.events, "phx_close")

    def read(self) -> None:
        """Take what has arrived."""
        while self.socket._arrived:
            _, _, topic, event, payload = self.socket._arrived.pop(0)
            if topic != self.topic:
                continue
            self.events.append(event)
            self.payloads.append(payload)
            if event == self.names[0]:
                self.shown.take_state(payload)
            elif event == self.names[1]:
                self.shown.take_diff(payload)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + TIMEOUT
        while True:
            await self.told()
            if condition():
                return
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(
                    f"{what} did not come; {self.name} shows {self.shown.state}"
                )
            await asyncio.sleep(0.002)

    async def told(self) -> None:
        """Take all that the server has written until now: what is behind is the answer to this."""
        ref = f"hb{next(self.socket._refs)}"
        await self.socket.send([None, ref, "phoenix", "heartbeat", {}])
        while not any(frame[1] == ref for frame in self.socket._arrived):
            await self.socket._receive("the answer to a heartbeat")
        self.read()

    async def shows(self, *keys: str) -> None:
        """Wait until these are the keys of the list, each as often as it has metas."""

        def shown() -> list[str]:
            state = self.shown.state
            return sorted(key for key in state for _ in state[key]["metas"])

        await self.until(lambda: shown() == sorted(keys), f"{keys}")

    async def listed(self, presence: type[Presence], topic: str, *keys: str) -> None:
        """Wait until these are the keys of what ``list`` finds."""
        async with asyncio.timeout(TIMEOUT):
            while sorted(await presence.list(topic)) != sorted(keys):
                await self.told()

    @property
    def channel(self) -> Base:
        return Base.joined[self.name]


Enter = Callable[..., Coroutine[Any, Any, Tab]]


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    Base.joined = {}
    Named.asked, Named.told, Named.gates, Named.crashes = [], [], {}, False
    sockets: list[TestSocket] = []

    async def enter(name: str, topic: str = TOPIC, **kwargs: Any) -> Tab:
        sockets.append(await connect(RoomSocket, **kwargs))
        tab = Tab(sockets[-1], topic, name)
        await tab.join()
        return tab

    yield enter
    for socket in sockets:
        await socket.close()


# --------------------------------------------------------- what a channel calls


async def test_who_is_tracked_shows_on_every_tab_and_in_the_list(enter: Enter) -> None:
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


async def test_an_update_is_one_diff_that_names_what_it_replaces(enter: Enter) -> None:
    tab = await enter("ada")
    first = await Plain.get(TOPIC, "ada")
    assert first is not None
    old = first["metas"][0]["phx_ref"]
    ref = await Plain.update(tab.channel, "ada", {"of": "update"})
    await tab.until(lambda: len(tab.shown.diffs) == 2, "the diff of the update")
    assert tab.shown.diffs[-1] == {
        "joins": {
            "ada": {"metas": [{"of": "update", "phx_ref": ref, "phx_ref_prev": old}]}
        },
        "leaves": {"ada": first},
    }
    assert ref != old
    assert tab.shown.state == await Plain.list(TOPIC)


async def test_an_update_may_be_made_from_the_old_meta(enter: Enter) -> None:
    tab = await enter("ada")
    seen: list[Any] = []

    def grow(old: Any) -> Any:
        seen.append(dict(old))
        return {**old, "n": old.get("n", 0) + 1}

    await Plain.update(tab.channel, "ada", grow)
    last = await Plain.update(tab.channel, "ada", grow)
    # the refs are ours, and no part of what was tracked
    assert seen == [{"of": "ada"}, {"of": "ada", "n": 1}]
    found = await Plain.get(TOPIC, "ada")
    assert found is not None
    (meta,) = found["metas"]
    assert (meta["n"], meta["phx_ref"]) == (2, last)
    await tab.shows("ada")


async def test_an_update_that_raises_changes_nothing(enter: Enter) -> None:
    tab = await enter("ada")
    before = await Plain.list(TOPIC)

    def crash(old: Any) -> Any:
        raise LookupError

    for wrong, error in (
        (crash, LookupError),
        ({"a": object()}, EncodeError),
        (["no mapping"], TypeError),
    ):
        with pytest.raises(error):
            await Plain.update(tab.channel, "ada", wrong)  # type: ignore[arg-type]
    assert await Plain.list(TOPIC) == before
    await Plain.update(tab.channel, "ada", {"of": "a right one"})


async def test_metas_of_a_key_keep_their_places_when_one_is_updated(
    enter: Enter,
) -> None:
    tabs = [await enter(name, "silent:1") for name in "abc"]
    for tab in tabs:
        await Plain.track(tab.channel, "ada", {"device": tab.name})
    for at, tab in enumerate(tabs):
        await Plain.update(tab.channel, "ada", lambda m: {"device": m["device"] * 2})
        found = await Plain.get("silent:1", "ada")
        assert found is not None
        devices = [meta["device"] for meta in found["metas"]]
        assert devices == [n * 2 if at >= i else n for i, n in enumerate("abc")]


async def test_a_key_is_there_until_its_last_meta_is_gone(enter: Enter) -> None:
    watcher = await enter("watcher")
    for name in ("phone", "laptop"):
        await enter(name, "silent:x")
        await Plain.track(Base.joined[name], "ada", {"of": name}, topic=TOPIC)
    await watcher.shows("ada", "ada", "watcher")
    assert watcher.shown.metas("of")["ada"] == ["laptop", "phone"]
    await Plain.untrack(Base.joined["phone"], "ada", topic=TOPIC)
    await watcher.shows("ada", "watcher")
    assert watcher.shown.metas("of")["ada"] == ["laptop"]
    await Plain.untrack(Base.joined["laptop"], topic=TOPIC)
    await watcher.shows("watcher")


async def test_a_channel_tracks_a_key_once_and_others_may_too(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    with pytest.raises(AlreadyTracked, match="'key' is tracked on 'silent:1'"):
        await Plain.track(ada.channel, "key", {})
    await Plain.track(ada.channel, "another key", {})
    await Plain.track(bob.channel, "key", {})
    await Plain.track(ada.channel, "key", {}, topic="silent:2")
    await Merging.track(ada.channel, "key", {})  # another class
    await Plain.untrack(ada.channel, "key")
    await Plain.track(ada.channel, "key", {})


async def test_a_track_that_raises_has_tracked_nothing(enter: Enter) -> None:
    channel = (await enter("a", "silent:1")).channel
    for meta, error in (
        ({"a": object()}, EncodeError),
        ("text", TypeError),
        (None, TypeError),
        ([("a", 1)], TypeError),
    ):
        with pytest.raises(error):
            await Plain.track(channel, "key", meta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a key"):
        await Plain.track(channel, None, {})
    assert await Plain.list("silent:1") == {}
    await Plain.track(channel, "key", {})


async def test_only_what_is_tracked_can_be_updated(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    for channel, key in ((bob.channel, "key"), (ada.channel, "other")):
        with pytest.raises(NotTracked, match="is not tracked on 'silent:1'"):
            await Plain.update(channel, key, {})
    with pytest.raises(NotTracked):
        await Plain.update(ada.channel, "key", {}, topic="silent:2")
    await Plain.untrack(ada.channel)
    with pytest.raises(NotTracked):
        await Plain.update(ada.channel, "key", {})


async def test_untracking_what_is_not_tracked_is_no_error(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    await Plain.untrack(bob.channel, "key")
    await Plain.untrack(bob.channel)
    await Plain.untrack(ada.channel, "other")
    assert list(await Plain.list("silent:1")) == ["key"]


async def test_untrack_without_a_key_ends_all_of_a_channel_on_a_topic(
    enter: Enter,
) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    for key in ("one", "two"):
        await Plain.track(ada.channel, key, {})
    await Plain.track(ada.channel, "far", {}, topic="silent:2")
    await Plain.track(bob.channel, "one", {})
    await Plain.untrack(ada.channel)
    assert list(await Plain.list("silent:1")) == ["one"]
    assert list(await Plain.list("silent:2")) == ["far"]


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


async def test_who_comes_and_goes_leaves_nothing_behind(enter: Enter) -> None:
    tracker: Any = get_node().part(Trackers).of(Plain)
    tab = await enter("ada", "room:brief")
    await tab.leave()
    watcher = await enter("watcher")
    await watcher.shows("watcher")
    assert [topic for _, topic in tracker._owned] == [TOPIC]
    await get_node().heartbeat.beat()
    assert list(tracker._topics) == [TOPIC]


# ------------------------------------------------------------- the one-liner


async def test_the_state_comes_before_ones_own_diff(enter: Enter) -> None:
    ada, bob = await enter("ada"), await enter("bob")
    await bob.shows("ada", "bob")
    wanted = ["phx_reply", "presence_state", "presence_diff"]
    assert ada.events[:3] == bob.events == wanted
    assert ada.shown.states == [{}]
    assert list(bob.shown.states[0]) == ["ada"]
    assert list(bob.shown.diffs[0]["joins"]) == ["bob"]
    await ada.shows("ada", "bob")
    assert ada.shown.state == bob.shown.state


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


async def test_a_v1_client_is_told_as_well(enter: Enter) -> None:
    ada = await enter("ada")
    socket = await connect(RoomSocket, {"vsn": "1.0.0"})
    join = '{"topic":"room:1","event":"phx_join","payload":{"name":"old"},"ref":"1"}'
    communicator = socket.line.communicator
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


async def test_an_intercepted_diff_passes_through_handle_out(enter: Enter) -> None:
    ada, bob = await enter("ada", "filtering:1"), await enter("bob", "filtering:1")
    await Plain.track("filtering:1", "secret", {})
    await Plain.track("filtering:1", "known", {})
    for tab in (ada, bob):
        await tab.shows("ada", "bob", "known")
        assert {diff["for"] for diff in tab.shown.diffs} == {tab.name}  # type: ignore[comparison-overlap]
    assert "secret" in await Plain.list("filtering:1")


# ------------------------------------------------------------------- intervals


async def test_without_an_interval_every_change_is_a_diff(enter: Enter) -> None:
    watcher, tab = await enter("watcher"), await enter("a", "silent:1")
    await watcher.shows("watcher")
    await asyncio.gather(
        *(Plain.track(tab.channel, n, {}, topic=TOPIC) for n in range(20))
    )
    await watcher.shows("watcher", *map(str, range(20)))
    assert len(watcher.shown.diffs) == 21
    assert all(len(diff["joins"]) == 1 for diff in watcher.shown.diffs)


async def test_the_first_diff_goes_out_at_once_and_the_next_are_merged(
    enter: Enter,
) -> None:
    watcher = await enter("watcher", "merging:1")
    await watcher.told()
    assert len(watcher.shown.diffs) == 1  # its own, at once
    tab = await enter("a", "silent:1")
    for n in range(50):
        await Merging.track(tab.channel, n, {"n": n}, topic="merging:1")
    await Merging.untrack(tab.channel, 0, topic="merging:1")
    await Merging.update(tab.channel, 1, {"n": "new"}, topic="merging:1")
    await watcher.shows("watcher", *map(str, range(1, 50)))
    assert len(watcher.shown.diffs) <= 3
    merged = watcher.shown.diffs[1]
    assert "0" not in merged["joins"]
    assert merged["joins"]["1"]["metas"][0]["n"] == "new"
    assert watcher.shown.state == await Merging.list("merging:1")


async def test_after_a_quiet_interval_a_diff_goes_out_at_once_again(
    enter: Enter,
) -> None:
    watcher = await enter("watcher", "merging:1")
    await watcher.shows("watcher")
    topic = get_node().part(Trackers).of(Merging).topic("merging:1")
    async with asyncio.timeout(TIMEOUT):
        while not topic._diff_sender.is_idle:
            await asyncio.sleep(0.01)
    await Merging.track("merging:1", "key", {})
    await watcher.told()
    assert list(watcher.shown.diffs[-1]["joins"]) == ["key"]
    await Merging.untrack("merging:1")


async def test_many_who_join_at_once_make_few_frames(enter: Enter) -> None:
    tabs = await asyncio.gather(*(enter(f"n{n}", "merging:2") for n in range(50)))
    names = [tab.name for tab in tabs]
    for tab in tabs:
        await tab.shows(*names)
        assert len(tab.shown.diffs) <= 6
        assert tab.events.count("presence_state") == 1


async def test_who_joins_while_changes_wait_sees_what_becomes_of_them(
    enter: Enter,
) -> None:
    """In the state that it gets are changes that nobody was told of yet; what undoes them must
    reach it, though for all others nothing has happened."""
    watcher = await enter("watcher", "merging:1")  # its diff begins an interval
    await Merging.track("merging:1", "brief", {})
    late = await enter("late", "merging:1")
    assert list(late.shown.states[0]) == ["watcher", "brief"]
    await Merging.untrack("merging:1", "brief")
    await watcher.shows("late", "watcher")
    await late.shows("late", "watcher")


# ----------------------------------------------------------------- enrichment


async def test_fetch_enriches_states_diffs_and_lists(enter: Enter) -> None:
    ada, bob = await enter("ada", "named:1"), await enter("bob", "named:1")
    for tab in (ada, bob):
        await tab.shows("ada", "bob")
        names = {key: p["name"] for key, p in tab.shown.state.items()}
        assert names == {"ada": "ADA", "bob": "BOB"}
    assert bob.shown.states[0]["ada"]["name"] == "ADA"
    listed = await Named.list("named:1")
    assert listed == ada.shown.state
    assert await Named.get("named:1", "ada") == listed["ada"]
    await bob.leave()
    await ada.shows("ada")
    assert ada.shown.diffs[-1]["leaves"]["bob"]["name"] == "BOB"


async def test_fetch_is_called_once_a_diff_whatever_the_number_of_clients(
    enter: Enter,
) -> None:
    tabs = [await enter(f"n{n}", "named:1") for n in range(10)]
    for tab in tabs:
        await tab.shows(*(t.name for t in tabs))
    Named.asked.clear()
    await Named.track("named:1", "one", {})
    for tab in tabs:
        await tab.shows("one", *(t.name for t in tabs))
    await Named.untrack("named:1", "one")
    for tab in tabs:
        await tab.shows(*(t.name for t in tabs))
    assert Named.asked == [["one"], ["one"]]


async def test_diffs_keep_their_order_when_an_early_fetch_is_slow(
    enter: Enter,
) -> None:
    tab = await enter("ada", "named:1")
    await tab.shows("ada")
    Named.gates = {"slow": asyncio.Event()}
    await Named.track("named:1", "slow", {})
    await Named.track("named:1", "quick", {})
    await Named.untrack("named:1", "slow")
    await tab.told()
    assert len(tab.shown.diffs) == 1
    Named.gates["slow"].set()
    await tab.shows("ada", "quick")
    changes = [(list(d["joins"]), list(d["leaves"])) for d in tab.shown.diffs]
    wanted: Any = [(["ada"], []), (["slow"], []), (["quick"], []), ([], ["slow"])]
    assert changes == wanted


async def test_a_state_that_is_fetched_slowly_misses_nothing(enter: Enter) -> None:
    watcher = await enter("watcher", "named:1")
    await Named.track("named:1", "slow", {})
    await Named.track("named:1", "leaver", {})
    await watcher.shows("leaver", "slow", "watcher")
    Named.gates = {"slow": asyncio.Event()}
    entering = asyncio.create_task(enter("ada", "named:1"))
    await watcher.until(lambda: len(Named.asked[-1]) == 3, "the list of ada")
    await Named.track("named:1", "meanwhile", {})
    await Named.untrack("named:1", "leaver")
    await watcher.shows("meanwhile", "slow", "watcher")
    Named.gates["slow"].set()
    await (await entering).shows("ada", "meanwhile", "slow", "watcher")


async def test_a_fetch_that_raises_costs_a_line_and_the_list_is_a_plain_one(
    enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    tab = await enter("ada", "named:1")
    await tab.shows("ada")
    Named.crashes = True
    await Named.track("named:1", "bob", {"a": 1})
    await tab.shows("ada", "bob")
    assert "name" not in tab.shown.state["bob"]
    assert tab.shown.state["bob"]["metas"][0]["a"] == 1
    assert [r.getMessage() for r in caplog.records] == ["Named.fetch crashed"]
    assert "no names today" in caplog.text
    assert "name" not in (await Named.list("named:1"))["ada"]
    Named.crashes = False
    await Named.untrack("named:1", "bob")
    await tab.shows("ada")


@pytest.mark.django_db(transaction=True)
async def test_fetch_may_be_a_plain_def_that_asks_the_database(enter: Enter) -> None:
    users = [await get_user_model().objects.acreate_user(n) for n in ("ada", "bob")]
    tabs = [await enter(u.username, "database:1", user=u) for u in users]
    for tab in tabs:
        await tab.shows(*(str(user.pk) for user in users))
        names = {key: p["name"] for key, p in tab.shown.state.items()}
        assert names == {str(user.pk): user.username for user in users}


async def test_handle_metas_is_told_of_every_diff_and_who_is_there_then(
    enter: Enter,
) -> None:
    tab = await enter("ada", "named:1")
    await Named.track("named:1", "bob", {})
    await Named.update("named:1", "bob", {"a": 1})
    await Named.untrack("named:1", "bob")
    await tab.until(lambda: len(Named.told) == 4, "four calls")
    assert [told[:2] for told in Named.told] == [
        (["ada"], []),
        (["bob"], []),
        (["bob"], ["bob"]),
        ([], ["bob"]),
    ]
    assert Named.told[-1][2] == ["ada"]


async def test_a_handle_metas_that_raises_costs_a_line(
    enter: Enter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crashing(Presence):
        diff_interval = 0

        def handle_metas(self, *args: Any) -> None:
            raise LookupError("no idea")

    monkeypatch.setattr(PlainChannel, "presence", Crashing)
    tab = await enter("ada")
    await enter("bob")
    await tab.shows("ada", "bob")
    await tab.until(lambda: len(caplog.records) == 2, "a line a diff")
    assert "a diff of Crashing was not handled" in caplog.text


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
    await tab.told()
    await Merging.untrack(TOPIC)


async def test_a_thread_has_the_same_calls(enter: Enter) -> None:
    tab = await enter("ada")

    def work() -> Any:
        presence = Plain.sync
        ref = presence.track(TOPIC, "thread", {"n": 1})
        new = presence.update(TOPIC, "thread", lambda m: {"n": m["n"] + 1})
        got = presence.get(TOPIC, "thread")
        assert got == {"metas": [{"n": 2, "phx_ref": new, "phx_ref_prev": ref}]}
        presence.track(tab.channel, "of the channel", {})
        listed = sorted(presence.list(TOPIC))
        with pytest.raises(AlreadyTracked):
            presence.track(TOPIC, "thread", {})
        with pytest.raises(NotTracked):
            presence.update(TOPIC, "nobody", {})
        return listed

    listed = await asyncio.to_thread(work)
    assert listed == ["ada", "of the channel", "thread"]
    await tab.shows(*listed)
    await asyncio.to_thread(Plain.sync.untrack, TOPIC, "thread")
    await tab.shows("ada", "of the channel")


async def test_on_an_event_loop_the_blocking_calls_say_what_is_right() -> None:
    with pytest.raises(
        RuntimeError, match=r"Plain\.sync\.track\(\) blocks.*`await Plain\.track"
    ):
        Plain.sync.track(TOPIC, "key", {})
    for call in (Plain.sync.list, Plain.sync.untrack):
        with pytest.raises(RuntimeError, match="blocks: on an event loop it is `await"):
            call(TOPIC)
    with pytest.raises(RuntimeError):
        Plain.sync.get(TOPIC, "key")
    with pytest.raises(RuntimeError):
        Plain.sync.update(TOPIC, "key", {})
    assert await Plain.list(TOPIC) == {}


def test_a_script_without_a_server_tracks_and_lists() -> None:
    ref = Plain.sync.track("script:1", "job", {"n": 1})
    found = Plain.sync.list("script:1")
    assert found == {"job": {"metas": [{"n": 1, "phx_ref": ref}]}}
    Plain.sync.untrack("script:1", "job")
    assert Plain.sync.list("script:1") == {}


class Elsewhere:
    """A second event loop of this process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    async def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(call, self.loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), TIMEOUT)

    def close(self) -> None:
        async def end() -> None:
            await get_node().close()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(TIMEOUT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    elsewhere = Elsewhere()
    yield elsewhere
    elsewhere.close()


async def test_the_event_loops_of_a_process_see_each_other(
    enter: Enter, elsewhere: Elsewhere
) -> None:
    tab = await enter("ada")
    await elsewhere.run(Plain.track(TOPIC, "far", {"n": 1}))
    await tab.shows("ada", "far")
    assert sorted(await elsewhere.run(Plain.list(TOPIC))) == ["ada", "far"]
    await elsewhere.run(Plain.update(TOPIC, "far", {"n": 2}))
    await tab.until(lambda: len(tab.shown.diffs) == 3, "the update")
    await elsewhere.run(Plain.untrack(TOPIC))
    await tab.shows("ada")


async def test_who_comes_back_sees_what_happened_while_nobody_was_here(
    enter: Enter, elsewhere: Elsewhere
) -> None:
    """Changes by others are not followed while a topic has no subscriber here."""
    await elsewhere.run(Plain.track(TOPIC, "leaves meanwhile", {}))
    tab = await enter("ada")
    await tab.shows("ada", "leaves meanwhile")
    await tab.leave()
    await elsewhere.run(Plain.untrack(TOPIC))
    await elsewhere.run(Plain.track(TOPIC, "comes meanwhile", {}))
    assert list(await Plain.list(TOPIC)) == ["comes meanwhile"]
    await tab.join()
    await tab.shows("ada", "comes meanwhile")
    assert list(tab.shown.states[-1]) == ["comes meanwhile"]


async def test_the_presences_of_a_loop_that_has_died_are_gone_at_the_next_beat(
    enter: Enter,
) -> None:
    tab = await enter("ada")

    def die() -> None:
        asyncio.run(_track_and_die())

    await sync_to_async(die, thread_sensitive=False)()
    await tab.shows("ada", "dead")
    await get_node().heartbeat.beat()
    await tab.shows("ada")


async def _track_and_die() -> None:
    await Plain.track(TOPIC, "dead", {})


# --------------------------------------------------- a state that takes its time


class SlowState(MemoryState):
    """Its steps happen when the test lets them; all others wait for nothing."""

    def __init__(self) -> None:
        super().__init__(lease=1000.0)
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.is_down = False

    async def _pass(self, step: str) -> None:
        self.asked.append(step)
        if step in self.gates:
            await self.gates[step].wait()
        if self.is_down:
            raise StateError("down")

    async def change(self, *args: Any, **kwargs: Any) -> Any:
        await self._pass("change")
        return await super().change(*args, **kwargs)

    async def replace(self, *args: Any) -> Any:
        await self._pass("replace")
        return await super().replace(*args)

    async def entries(self, *args: Any) -> Any:
        await self._pass("entries")
        return await super().entries(*args)

    async def beat(self, *args: Any, **kwargs: Any) -> bool:
        await self._pass("beat")
        return await super().beat(*args, **kwargs)


@pytest.fixture
async def state() -> SlowState:
    state = get_node().heartbeat.state = SlowState()
    return state


async def in_state(state: SlowState) -> list[str]:
    _, found = await state.entries(f"{Plain.name}\n{TOPIC}")
    return sorted(Entry.unpack(entry).key for entry in found.values())


async def test_in_an_outage_changes_show_here_and_are_made_up_for_afterwards(
    state: SlowState, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    tab = await enter("ada")
    state.is_down = True
    await Plain.track(TOPIC, "one", {})
    await Plain.track(TOPIC, "two", {})
    await Plain.untrack(TOPIC, "one")
    await tab.shows("ada", "two")
    bob = await enter("bob")
    await bob.shows("ada", "bob", "two")
    far = await enter("eve", "room:new")  # a topic that was never read
    await far.shows("eve")
    state.is_down = False
    assert await in_state(state) == ["ada"]
    await get_node().heartbeat.beat()
    assert await in_state(state) == ["ada", "bob", "two"]
    await tab.shows("ada", "bob", "two")
    lines = [r.getMessage() for r in caplog.records if r.name == "phx_protocol.state"]
    assert len(lines) == 2 and "the state fails" in lines[0], lines
    assert lines[1] == "the state works again"


@pytest.mark.parametrize("trouble", ["an outage", "a lease that was lost"])
async def test_what_changes_while_the_state_is_mended_stays_changed(
    state: SlowState, enter: Enter, trouble: str
) -> None:
    tab, node = await enter("ada"), get_node()
    await Plain.track(TOPIC, "leaver", {})
    if trouble == "an outage":
        state.is_down = True
        await Plain.update(TOPIC, "leaver", {})
        state.is_down = False
    else:
        await state.leave(node.heartbeat.name)
    state.gates["replace"] = asyncio.Event()
    beating = asyncio.create_task(node.heartbeat.beat())
    await tab.until(lambda: "replace" in state.asked, "mending")
    changing = asyncio.gather(
        Plain.track(TOPIC, "comer", {}), Plain.untrack(TOPIC, "leaver")
    )
    await tab.told()
    state.gates["replace"].set()
    await asyncio.gather(beating, changing)
    await node.heartbeat.beat()
    await tab.shows("ada", "comer")
    assert await in_state(state) == ["ada", "comer"]


async def test_who_comes_while_the_state_is_read_misses_nothing(
    state: SlowState, enter: Enter, elsewhere: Elsewhere
) -> None:
    state.gates["entries"] = asyncio.Event()
    entering = [asyncio.create_task(enter(name)) for name in ("ada", "bob")]
    async with asyncio.timeout(TIMEOUT):
        while "entries" not in state.asked:
            await asyncio.sleep(0)
    await Plain.track(TOPIC, "meanwhile", {})
    await Plain.track(TOPIC, "brief", {})
    await Plain.untrack(TOPIC, "brief")
    state.gates["entries"].set()
    for tab in await asyncio.gather(*entering):
        await tab.shows("ada", "bob", "meanwhile")
    assert state.asked.count("entries") == 1  # one reading for all who wait


async def test_who_is_away_while_the_state_is_read_is_in_nobodys_way(
    state: SlowState, enter: Enter
) -> None:
    """The reading for a topic that lost its last subscriber is not the one for the next."""
    await Plain.track(TOPIC, "worker", {})
    state.gates["entries"] = asyncio.Event()
    tab = await enter("ada", "silent:1")
    listing = asyncio.create_task(Plain.list(tab.channel))
    await tab.until(lambda: "entries" in state.asked, "a reading")
    await tab.leave()
    await tab.until(lambda: not get_node().pubsub.registry, "nobody")
    await get_node().heartbeat.beat()
    state.gates["entries"].set()
    assert await listing == {}


async def test_a_key_that_no_wire_can_carry_is_an_error_and_no_silence(
    enter: Enter,
) -> None:
    await enter("ada")
    with pytest.raises((EncodeError, UnicodeError)):
        await asyncio.wait_for(Plain.track(TOPIC, "\ud800", {}), TIMEOUT)
    await asyncio.wait_for(Plain.track(TOPIC, "next", {}), TIMEOUT)
    assert sorted(await Plain.list(TOPIC)) == ["ada", "next"]


async def test_a_node_that_stops_and_is_needed_at_once_beats_again() -> None:
    await Plain.track(TOPIC, "worker", {})
    await Plain.untrack(TOPIC)
    node = get_node()
    node._stop()
    node.start()  # somebody connects before the end has begun
    assert node._ending is not None
    await node._ending
    assert await asyncio.wait_for(Plain.list(TOPIC), TIMEOUT) == {}
    await Plain.track(TOPIC, "worker", {})
    assert node.heartbeat.name in await node.heartbeat.state.nodes()
