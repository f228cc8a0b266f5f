"""What happens to histories while their topics move to another server of the state."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from msgspec import Raw

from phx_protocol.exceptions import StateError
from phx_protocol.history.recovery import RecoveryRequest
from phx_protocol.history.streams import Streams
from phx_protocol.state import Position
from phx_protocol.wire.messages import Broadcast
from tests.node import test_placement
from tests.node.test_placement import Hearing, Site, say, until

site = test_placement.site

TOPIC = "room:1"
KNOWS: dict[str, list[int]] = {"hosts": [0], "next_hosts": [1]}
CHANGES: dict[str, list[int]] = {"hosts": [1], "previous_hosts": [0]}


async def test_what_could_not_be_kept_in_the_middle_of_a_change_stops_no_beat(
    site: Site,
) -> None:
    one = await site.process(**KNOWS)
    before, state = one.part(Streams, TOPIC), one.heartbeat.state

    async def late(items: Any) -> Any:
        del state.append  # type: ignore[attr-defined]
        await until(lambda: one.placement.rings.number)
        raise StateError("it did not answer")

    state.append = late  # type: ignore[method-assign]
    heard = Hearing(one, TOPIC)
    said = asyncio.create_task(say(one, TOPIC, "not kept"))
    await site.process(**CHANGES)
    await until(lambda: one.placement.rings.number)
    await said
    assert heard.heard == ["not kept"]
    await before.beat()
    assert not before._broken
    # on the new server it is a gap, which the next beat mends
    for heartbeat in one.heartbeats:
        await heartbeat.beat()
    await until(lambda: not one.part(Streams, TOPIC)._broken)


async def test_a_client_whose_server_was_away_before_the_change_misses_nothing_unknowingly(
    site: Site,
) -> None:
    one = await site.process(**KNOWS)

    async def away(*args: Any) -> Position:
        raise StateError("away")

    one.heartbeat.state.open = away  # type: ignore[method-assign]
    client = Hearing(one, TOPIC)
    assert (await client.rejoin()).position is None
    two = site.make(**CHANGES)
    site.nodes.append(two)
    speak_before_it_opens(one, two)
    await two.placement.ask()
    await until(lambda: one.placement.rings.number)
    await one.part(Streams, TOPIC)._streams[TOPIC].opened()
    await asyncio.sleep(0.5)
    assert client.heard == ["meanwhile"] or client.interrupts == 1


async def test_a_join_at_the_moment_of_the_change_goes_on_there(site: Site) -> None:
    one = await site.process(**KNOWS)
    for heartbeat in one.heartbeats:  # it learns of the change by the join

        async def nothing() -> None:
            await asyncio.sleep(0.1)

        heartbeat.beat = nothing  # type: ignore[method-assign]
    await asyncio.sleep(0.7)
    two = site.make(**CHANGES)
    site.nodes.append(two)
    await two.placement.ask()
    assert not one.placement.rings.number
    client = Hearing(one, TOPIC)
    await say(two, TOPIC, "before")
    recovery = await client.rejoin()
    assert str(recovery.position).endswith("-1")
    await say(two, TOPIC, "after")
    await until(lambda: "after" in client.heard)
    assert one.placement.rings.number == 1
    assert client.interrupts == 0


async def test_a_newcomer_gets_what_the_new_server_has(site: Site) -> None:
    one = await site.process(**KNOWS)
    client = Hearing(one, TOPIC)
    await client.rejoin()
    await say(one, TOPIC, "before")
    assert heard_first(await newcomer(one)) == ["before"]
    two = await site.process(**CHANGES)
    await until(lambda: one.placement.rings.number)
    await say(two, TOPIC, "after")
    binary = Broadcast(TOPIC, "later", b"\x00\xff")
    await two.pubsub.broadcast(binary, test_placement.KEPT)
    await until(lambda: "later" in client.heard)
    for node in (one, two):
        found = await newcomer(node)
        assert (found.rewound, found.recovered) == (True, False)
        assert heard_first(found) == ["after", "later"]
        assert [kept.payload for kept in found.missed] == [Raw(b"{}"), b"\x00\xff"]
        assert found.position.n == 0


async def newcomer(node: Any) -> Any:
    history = dataclasses.replace(test_placement.KEPT, rewind=10)
    request = RecoveryRequest(None, frozenset(), True)
    return await node.part(Streams, TOPIC).catch_up(TOPIC, history, request)


def heard_first(recovery: Any) -> list[str]:
    return [broadcast.event for broadcast in recovery.broadcasts(TOPIC)]


def speak_before_it_opens(one: Any, two: Any) -> None:
    """Let `two` speak before `one` knows how far the new history is."""
    state = one.heartbeats[1].state

    async def opened(*args: Any) -> Position:
        del state.open
        await say(two, TOPIC, "meanwhile")
        return await state.open(*args)

    state.open = opened


async def test_what_two_servers_keep_at_the_moment_of_a_change_is_waited_for(
    site: Site,
) -> None:
    one = await site.process(**KNOWS)
    part, loop = one.part(Streams, TOPIC), asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    part._earlier = {first}
    said = asyncio.create_task(say(one, TOPIC, "later"))
    await asyncio.sleep(0.05)
    part._earlier.add(second)
    first.set_result(None)
    await asyncio.sleep(0.2)
    assert not said.done()
    second.set_result(None)
    await said
