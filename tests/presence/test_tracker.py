"""The tracker of a process: other processes, and a state that is away or empty."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from phx_protocol.exceptions import StateError
from phx_protocol.node.node import get_node
from phx_protocol.presence.entries import Entry
from phx_protocol.presence.tracker import Trackers
from phx_protocol.state.memory import MemoryState
from phx_protocol.testing.clients import TIMEOUT
from tests.presence.rooms import TOPIC, Enter, Plain, enter

__all__ = ["enter"]


async def test_a_presence_that_ends_leaves_nothing_behind(enter: Enter) -> None:
    tracker: Any = get_node().part(Trackers).of(Plain)
    tab = await enter("ada", "room:brief")
    await tab.leave()
    watcher = await enter("watcher")
    await watcher.shows("watcher")
    assert [topic for _, topic in tracker._owned] == [TOPIC]
    await get_node().heartbeat.beat()
    assert list(tracker._topics) == [TOPIC]


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


async def test_a_client_that_comes_back_sees_what_happened_meanwhile(
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
async def test_a_change_while_the_state_is_mended_is_kept(
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
    await tab.catch_up()
    state.gates["replace"].set()
    await asyncio.gather(beating, changing)
    await node.heartbeat.beat()
    await tab.shows("ada", "comer")
    assert await in_state(state) == ["ada", "comer"]


async def test_a_client_that_joins_while_the_state_is_read_misses_nothing(
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


async def test_a_client_that_leaves_while_the_state_is_read_disturbs_no_other(
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
