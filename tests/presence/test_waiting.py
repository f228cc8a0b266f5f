"""The presence of a client that comes back: nobody hears that it was away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from phx_protocol import (
    Channel,
    Presence,
    Socket,
    StateError,
    aclose_topic,
    adisconnect,
    adisconnect_user,
    areauthorize,
    event,
)
from phx_protocol.exceptions import StateTimeout
from phx_protocol.node.node import get_node
from phx_protocol.presence.entries import Diff
from phx_protocol.presence.replica import Hint
from phx_protocol.presence.tracker import Trackers, Written
from phx_protocol.testing import TestChannel, TestSocket, connect
from tests.support.visitor import Visitor


class Stay(Presence):
    diff_interval = 0
    leave_after = 30


class Brief(Presence):
    diff_interval = 0
    leave_after = 0.1


class RoomChannel(Channel):
    presence = Stay
    metas = 0
    is_welcome = True

    async def authorize(self) -> bool:
        return self.is_welcome

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_key(self) -> str:
        return str(self.socket.user.pk)

    def presence_meta(self) -> dict[str, Any]:
        RoomChannel.metas += 1
        return {"n": RoomChannel.metas}

    @event("update")
    async def update(self, payload: Any) -> Any:
        await Stay.update(self, self.socket.user.pk, payload)
        return "ok"

    @event("untrack")
    async def untrack(self, payload: Any) -> Any:
        await Stay.untrack(self)
        return "ok"

    @event("stop")
    async def stop_it(self, payload: Any) -> None:
        await self.stop()

    @event("crash")
    async def crash(self, payload: Any) -> None:
        raise LookupError


class BriefChannel(RoomChannel):
    presence = Brief


class TrackingChannel(RoomChannel):
    presence = None

    async def after_join(self) -> None:
        ref = await Stay.track(self, self.socket.user.pk, self.presence_meta())
        await self.push("tracked", {"ref": ref})


class RoomSocket(Socket):
    channels = {"room": RoomChannel, "brief": BriefChannel, "own": TrackingChannel}

    def id(self) -> str:
        return f"users:{self.user.pk}"


@pytest.fixture(autouse=True)
def _none_asked_for() -> None:
    RoomChannel.metas = 0
    RoomChannel.is_welcome = True


class Page:
    """A client, and the metas that it knows: by key, in order."""

    def __init__(self, socket: TestSocket, channel: TestChannel) -> None:
        self.socket = socket
        self.channel = channel

    async def close(self) -> None:
        await self.socket.close()


async def opened(name: str, topic: str = "room") -> Page:
    socket = await connect(RoomSocket, user=Visitor(name))
    page = Page(socket, await socket.join(topic))
    await socket.settled()
    return page


async def refs(topic: str = "room", presence: type[Presence] = Stay) -> dict[str, Any]:
    """The refs of each key."""
    found = await presence.list(topic)
    return {key: [m["phx_ref"] for m in p["metas"]] for key, p in found.items()}


async def watcher(topic: str = "room") -> Page:
    """Bob, who has read what he got until now."""
    bob = await opened("bob", topic)
    await bob.channel.assert_push("presence_diff")
    return bob


def held_take(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold up the state's answer to a client that comes back: it was asked, and it may go on."""
    state, asked, go_on = get_node().heartbeat.state, asyncio.Event(), asyncio.Event()
    take = state.take

    async def slowly(*args: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await take(*args)

    monkeypatch.setattr(state, "take", slowly)
    return asked, go_on


async def test_who_reloads_has_the_presence_that_it_had_and_nobody_gets_a_diff() -> (
    None
):
    ada = await opened("ada")
    bob = await watcher()
    before = await refs()
    for _ in range(3):
        await ada.close()
        assert await refs() == before
        ada = await opened("ada")
        state = await ada.channel.assert_push("presence_state")
        assert state["ada"]["metas"] == [{"n": 1, "phx_ref": before["ada"][0]}]
        await ada.channel.refute_push("presence_diff")
    assert await refs() == before
    await bob.channel.refute_push("presence_diff")
    assert RoomChannel.metas == 2  # ada's and bob's
    await ada.channel.leave()
    diff = await bob.channel.assert_push("presence_diff")
    assert (diff["joins"], list(diff["leaves"])) == ({}, ["ada"])
    for page in (ada, bob):
        await page.close()


async def test_several_tabs_of_one_user_come_back_each_to_one_of_theirs() -> None:
    tabs = [await opened("ada") for _ in range(3)]
    bob = await watcher()
    before = await refs()
    for tab in tabs[1:]:
        await tab.close()
    back = [await opened("ada") for _ in range(2)]
    assert await refs() == before
    await bob.channel.refute_push("presence_diff")
    third = await opened("ada")  # nothing waits any more
    assert list((await bob.channel.assert_push("presence_diff"))["joins"]) == ["ada"]
    assert len((await refs())["ada"]) == 4
    for page in (tabs[0], *back, third, bob):
        await page.close()


async def test_another_user_takes_nothing_over() -> None:
    ada = await opened("ada")
    bob = await watcher()
    await ada.close()
    eve = await opened("eve")
    assert list((await bob.channel.assert_push("presence_diff"))["joins"]) == ["eve"]
    assert set(await refs()) == {"ada", "bob", "eve"}
    for page in (eve, bob):
        await page.close()


async def test_a_channel_that_tracks_by_itself_takes_over_too() -> None:
    ada = await opened("ada", "own")
    ref = (await ada.channel.assert_push("tracked"))["ref"]
    await ada.close()
    ada = await opened("ada", "own")
    assert (await ada.channel.assert_push("tracked"))["ref"] == ref
    await ada.close()


async def test_who_is_back_updates_what_it_has_taken_over() -> None:
    await (await opened("ada")).close()
    ada = await opened("ada")
    bob = await watcher()
    (ref,) = (await refs())["ada"]
    await ada.channel.assert_reply(await ada.channel.push("update", {"n": 9}), "ok")
    diff = await bob.channel.assert_push("presence_diff")
    (meta,) = diff["joins"]["ada"]["metas"]
    assert (meta["n"], meta["phx_ref_prev"]) == (9, ref)
    for page in (ada, bob):
        await page.close()


async def by_leaving(ada: Page) -> None:
    await ada.channel.leave()


async def by_untrack(ada: Page) -> None:
    await ada.channel.push("untrack")


async def by_stop(ada: Page) -> None:
    await ada.channel.push("stop")


async def by_a_crash(ada: Page) -> None:
    await ada.channel.push("crash")


async def by_disconnect(ada: Page) -> None:
    await adisconnect("users:ada")


async def by_disconnect_user(ada: Page) -> None:
    await adisconnect_user(Visitor("ada"))


async def by_reauthorize(ada: Page) -> None:
    RoomChannel.is_welcome = False
    await areauthorize(user=Visitor("ada"))


async def by_joining_again(ada: Page) -> None:
    await ada.socket.join("room")


@pytest.mark.parametrize(
    "end",
    [
        by_leaving,
        by_untrack,
        by_stop,
        by_a_crash,
        by_disconnect,
        by_disconnect_user,
        by_reauthorize,
        by_joining_again,
    ],
)
async def test_who_does_not_come_back_is_told_of_at_once(
    end: Callable[[Page], Awaitable[None]],
) -> None:
    ada = await opened("ada")
    bob = await watcher()
    await end(ada)
    diff = await bob.channel.assert_push("presence_diff")
    assert "ada" in diff["leaves"]
    for page in (ada, bob):
        await page.close()


async def test_a_topic_that_is_closed_keeps_nobody() -> None:
    ada = await opened("ada")
    await aclose_topic("room")
    assert await refs() == {}
    await ada.close()


async def test_who_is_not_back_in_time_leaves() -> None:
    ada = await opened("ada", "brief")
    bob = await watcher("brief")
    await ada.close()
    await bob.channel.refute_push("presence_diff")
    diff = await bob.channel.assert_push("presence_diff")
    assert (diff["joins"], list(diff["leaves"])) == ({}, ["ada"])
    assert list(await refs("brief", Brief)) == ["bob"]
    ada = await opened("ada", "brief")
    assert list((await bob.channel.assert_push("presence_diff"))["joins"]) == ["ada"]
    for page in (ada, bob):
        await page.close()


async def test_the_last_one_of_a_topic_leaves_too_and_the_node_rests() -> None:
    await (await opened("ada", "brief")).close()
    assert list(await refs("brief", Brief)) == ["ada"]
    async with asyncio.timeout(5):
        while await refs("brief", Brief):
            await asyncio.sleep(0.05)
    assert not get_node()._kept_alive_by


async def test_without_the_state_who_is_back_may_show_twice_and_never_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await opened("ada", "brief")
    bob = await watcher("brief")
    state = get_node().heartbeat.state

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    with monkeypatch.context() as away:
        for name in ("wait", "take", "end_wait", "change", "replace", "beat"):
            away.setattr(state, name, fails)
        await ada.close()
        ada = await opened("ada", "brief")
        assert len((await refs("brief", Brief))["ada"]) == 2
    get_node().heartbeat.beat_soon()
    async with asyncio.timeout(5):
        while len((await refs("brief", Brief))["ada"]) > 1:
            await asyncio.sleep(0.05)
    await ada.channel.leave()
    async with asyncio.timeout(5):
        while "ada" in await refs("brief", Brief):
            await asyncio.sleep(0.05)
    for page in (ada, bob):
        await page.close()


async def test_without_the_state_who_reloads_alone_sees_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await opened("ada")
    state = get_node().heartbeat.state

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    for name in ("wait", "take", "end_wait", "change", "entries", "beat"):
        monkeypatch.setattr(state, name, fails)
    await ada.close()
    ada = await opened("ada")
    assert "ada" in await ada.channel.assert_push("presence_state")
    await ada.close()


@pytest.mark.parametrize("steps", range(0, 12, 2))
async def test_a_client_that_joins_again_at_once_leaves_no_presence_behind(
    steps: int,
) -> None:
    """Its second join ends the callbacks of the first, which may be taking over."""
    bob = await watcher("brief")
    await (await opened("ada", "brief")).close()
    socket = await connect(RoomSocket, user=Visitor("ada"))
    await socket.send(["1", "1", "brief", "phx_join", {}])
    for _ in range(steps):
        await asyncio.sleep(0)
    await socket.send(["2", "2", "brief", "phx_join", {}])
    await socket.settled()
    await socket.close()
    async with asyncio.timeout(8):
        while list(await refs("brief", Brief)) != ["bob"]:
            await asyncio.sleep(0.05)
    await bob.close()


async def test_an_answer_of_the_state_that_is_lost_leaves_no_presence_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bob = await watcher("brief")
    await (await opened("ada", "brief")).close()
    state = get_node().heartbeat.state
    take = state.take

    async def late(*args: Any) -> Any:
        await take(*args)
        raise StateTimeout("done, but too late")

    with monkeypatch.context() as slow:
        slow.setattr(state, "take", late)
        ada = await opened("ada", "brief")
    get_node().heartbeat.beat_soon()
    async with asyncio.timeout(8):
        while len((await refs("brief", Brief))["ada"]) > 1:
            await asyncio.sleep(0.05)
    await ada.channel.leave()
    async with asyncio.timeout(8):
        while list(await refs("brief", Brief)) != ["bob"]:
            await asyncio.sleep(0.05)
    for page in (ada, bob):
        await page.close()


async def test_many_that_do_not_come_back_leave_together() -> None:
    bob = await watcher("brief")
    pages = [await opened(f"visitor{n}", "brief") for n in range(20)]
    state, calls = get_node().heartbeat.state, []
    end_wait = state.end_wait

    async def counted(*args: Any) -> Any:
        calls.append(args)
        return await end_wait(*args)

    state.end_wait = counted  # type: ignore[method-assign]
    for page in pages:
        await page.close()
    async with asyncio.timeout(8):
        while list(await refs("brief", Brief)) != ["bob"]:
            await asyncio.sleep(0.05)
    assert len(calls) <= 3  # one for each second
    await bob.close()


async def test_without_the_state_who_is_not_back_leaves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada = await opened("ada", "brief")
    bob = await watcher("brief")
    state = get_node().heartbeat.state

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise StateError("the state is away")

    for name in ("wait", "end_wait"):
        monkeypatch.setattr(state, name, fails)
    await ada.close()
    async with asyncio.timeout(5):
        while True:
            try:
                diff = await bob.channel.assert_push("presence_diff")
                break
            except AssertionError:
                continue
    assert list(diff["leaves"]) == ["ada"]
    await bob.close()


async def test_a_state_that_was_lost_gets_those_who_wait_again() -> None:
    ada = await opened("ada")
    bob = await watcher()
    before = await refs()
    await ada.close()
    node = get_node()
    await node.heartbeat.state.lost()
    await node.heartbeat.beat()
    await node.heartbeat.beat()
    assert await refs() == before
    ada = await opened("ada")
    assert await refs() == before
    await bob.channel.refute_push("presence_diff")
    for page in (ada, bob):
        await page.close()


async def test_who_goes_while_it_takes_over_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await (await opened("ada")).close()
    before = await refs()
    asked, go_on = held_take(monkeypatch)
    socket = await connect(RoomSocket, user=Visitor("ada"))
    await socket.join("room")
    await asked.wait()
    closing = asyncio.create_task(socket.close())
    await asyncio.sleep(0.05)
    go_on.set()
    await closing
    monkeypatch.undo()
    assert await refs() == before
    ada = await opened("ada")
    assert await refs() == before
    await ada.close()


async def test_a_state_that_is_lost_without_a_word_gets_them_again_too() -> None:
    ada = await opened("ada")
    bob = await watcher()
    before = await refs()
    await ada.close()
    topic = get_node().part(Trackers).of(Stay).topic("room")
    state = get_node().heartbeat.state
    await state.lost()
    # another node begins the group again
    await state.change(topic.group, "another", {}, ())
    for _ in range(3):
        await get_node().part(Written).beat()
    _, known = await state.entries(topic.group)
    assert set(known) == {ref for refs in before.values() for ref in refs}
    for page in (await opened("ada"), bob):
        await page.close()


async def test_a_client_that_left_elsewhere_does_not_wait_here_any_more() -> None:
    await (await opened("ada")).close()
    bob = await watcher()
    node = get_node()
    topic, state = node.part(Trackers).of(Stay).topic("room"), node.heartbeat.state
    (ref,) = (await refs())["ada"]
    assert await state.take(topic.group, "elsewhere", [ref]) == ref
    before, after = await state.change(topic.group, "elsewhere", {}, [ref])
    (entry,) = topic.waiting.entries
    topic.take(Hint(before, after, Diff((), [entry])))
    assert not topic.waiting
    topic.is_dirty = True
    await topic.mend()
    assert set(await refs()) == {"bob"}
    await bob.close()


async def test_who_untracks_while_it_takes_over_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await (await opened("ada", "own")).close()
    asked, go_on = held_take(monkeypatch)
    socket = await connect(RoomSocket, user=Visitor("ada"))
    await socket.join("own")
    await asked.wait()
    (connection,) = get_node().connections
    await Stay.untrack(connection.joined()[0])
    go_on.set()
    await socket.settled()
    assert await refs("own") == {}
    await socket.close()


@pytest.mark.parametrize("seconds", [-1, "15", None, True, float("inf"), float("nan")])
def test_it_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(TypeError, match="leave_after is in seconds"):
        type("Wrong", (Presence,), {"leave_after": seconds})
