"""What happens at the same time as a change of the servers, or in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from phx_protocol.node.census import Census
from phx_protocol.node.neighbours import known_counts
from phx_protocol.node.node import Node
from phx_protocol.presence.tracker import Written
from phx_protocol.state.rings import Rings, id_of
from tests.node import test_placement
from tests.node.test_placement import (
    TOPICS,
    DeskPresence,
    Site,
    desks,
    steps,
    until,
    use,
)
from tests.users.people import Subscriber

site = test_placement.site


def during(node: Node, name: str, happens: Any) -> None:
    """Let `happens` happen once, behind a call of the first state of `node`."""
    state = node.heartbeat.state
    call = getattr(state, name)

    async def called(*args: Any) -> Any:
        setattr(state, name, call)
        found = await call(*args)
        await happens()
        return found

    setattr(state, name, called)


def agree(*nodes: Node) -> bool:
    """Whether these nodes go by the rings that their states know."""
    return all(
        str(beat.state._store.rings) == str(node.placement.rings)  # type: ignore[attr-defined]
        for node in nodes
        for beat in node.heartbeats
    )


@pytest.mark.parametrize("is_greater", [True, False])
async def test_a_process_that_learns_of_a_change_while_it_asks_for_one_asks_no_more(
    site: Site, is_greater: bool
) -> None:
    ids = {n: id_of(f"127.0.0.1:{site.ports[n]}/0") for n in range(3)}
    rings = {n: str(Rings([[ids[0]]]).then([ids[0], ids[n]])) for n in (1, 2)}
    theirs = max(rings, key=lambda n: (rings[n] > rings[3 - n]) == is_greater)
    rival = site.make(hosts=[0, 3 - theirs], previous_hosts=[0])
    other = site.make(hosts=[0, theirs], previous_hosts=[0])
    site.nodes += [rival, other]

    async def it_changes() -> None:
        await other.placement.ask()
        with contextlib.suppress(Exception):
            await rival.heartbeats[0].state.entries("desk\nroom:1")

    during(rival, "nodes", it_changes)
    await rival.placement.ask()
    await rival.placement.settled()
    await rival.heartbeat.state.nodes()
    await rival.placement.settled()
    assert agree(rival)
    assert str(rival.placement.rings) == rings[theirs]


async def test_two_processes_that_want_the_same_servers_make_one_ring(
    site: Site,
) -> None:
    changes = steps([0], [0, 1, 2])[2]
    one, two = site.make(**changes), site.make(**changes)
    site.nodes += [one, two]

    async def it_changes() -> None:
        await two.placement.ask()
        await one.heartbeat.state.positions([])
        with contextlib.suppress(Exception):
            await one.heartbeat.state.entries("desk\nroom:1")
        await one.placement.settled()

    during(one, "nodes", it_changes)
    await one.placement.ask()
    assert one.placement.rings.number == 1


async def test_a_change_goes_on_though_a_server_answers_nonsense(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    _, knows, changes, _ = steps([0], [0, 1, 2])
    one = await site.process(**knows)

    async def nonsense(rings: Rings) -> None:
        await type(state).adopt(state, rings)
        raise ValueError("nonsense")

    state = one.heartbeats[1].state
    state.adopt = nonsense  # type: ignore[method-assign]
    two = await site.process(**changes)
    await until(lambda: use(one, two) == {3})
    assert agree(one, two)


async def test_a_server_that_hangs_delays_the_change(site: Site) -> None:
    """As one that is away: the first server may be heard of before that is known."""
    _, _, changes, _ = steps([0], [0, 1])
    one = site.make(**changes)
    site.nodes.append(one)
    one.keep_alive("the test")
    hangs, state = asyncio.Event(), one.heartbeats[1].state

    async def hanging(*args: Any, **kwargs: Any) -> bool:
        await hangs.wait()
        return await type(state).beat(state, *args, **kwargs)

    state.beat = hanging  # type: ignore[method-assign]
    one.start_heartbeats()
    await one.heartbeat.ready()
    await one.heartbeat.beat()
    assert use(one) == {1}
    hangs.set()
    await until(lambda: use(one) == {2})


async def test_what_ended_on_another_server_does_not_come_back_with_the_topic(
    site: Site,
) -> None:
    """Though this process has not taken it back from the first server in between."""
    topic, here = "room:1", {"hosts": [0], "next_hosts": [1]}
    one = await site.process(**here)
    first, census = one.heartbeat, one.part(Census, topic)
    await desks(one).track(None, "room:2", "ada", {})
    for key in ("ada", "bob"):
        await desks(one).track(None, topic, key, {})
        await census.enter(topic, key)
    subscriber = Subscriber()
    one.pubsub.subscribe("quiet", subscriber)
    await first.beat()

    async def pause() -> None:
        await asyncio.sleep(0.1)

    first.beat = pause  # type: ignore[method-assign]
    await site.process(hosts=[1], previous_hosts=[0])
    await until(lambda: one.placement.rings.number == 1)
    await desks(one).untrack(None, topic, "ada")
    await desks(one).untrack(None, "room:2", "ada")
    for part in one.heartbeats[1].parts:
        part.closed("ada")
    one.pubsub.unsubscribe("quiet", subscriber)
    three = await site.process(hosts=[0], previous_hosts=[1])
    await until(lambda: one.placement.rings.number == 2)
    del first.beat  # type: ignore[attr-defined]
    await first.beat()
    await first.beat()
    assert (await desks(three).roster(topic)).presences().keys() == {"bob"}
    assert (await desks(three).roster("room:2")).presences() == {}
    members = await three.part(Census, topic).enter(topic, "eve")
    assert [member.id for member in members] == ["bob", "eve"]
    assert await known_counts(three) == {}


async def test_what_moves_while_the_rest_is_taken_back_is_taken_back_too(
    site: Site,
) -> None:
    one = await site.process(hosts=[0], next_hosts=[1])
    first = one.heartbeat
    groups = {f"{DeskPresence.name}\n{topic}" for topic in TOPICS}
    for topic in TOPICS:
        await desks(one).track(None, topic, "ada", {})
        one.pubsub.subscribe(f"quiet {topic}", Subscriber())
        await one.part(Census, topic).enter(topic, "ada")
    await first.beat()
    parts: list[Any] = [one.part(Written), one.part(Census), first]
    beats = first.beat
    first.beat = lambda: asyncio.sleep(0.1)  # type: ignore[method-assign]
    await site.process(hosts=[1], previous_hosts=[0])
    await until(lambda: one.placement.rings.number)
    # the last of each moves while the others are taken back
    late = [part._gone.pop() for part in parts]
    assert late[0] in groups
    clear, count = first.state.clear, first.state.count

    async def slow_clear(node: str, groups: list[str]) -> None:
        await clear(node, groups)
        place = 1 if groups[0].startswith("census") else 0
        parts[place]._gone.add(late[place])

    async def slow_count(*args: Any) -> int:
        parts[2]._gone.add(late[2])
        return await count(*args)

    first.state.clear = slow_clear  # type: ignore[method-assign, assignment]
    first.state.count = slow_count  # type: ignore[method-assign]
    await beats()
    del first.state.clear, first.state.count  # type: ignore[attr-defined]
    await beats()
    assert [part._gone for part in parts] == [set(), set(), set()]
    assert await first.state.counts() == {}
    assert await first.state._ask_owners() == set()  # type: ignore[attr-defined]


async def test_the_first_server_is_one_that_is_in_use_not_one_that_may_be_away(
    site: Site,
) -> None:
    """With it beats what is on no server, as the revocations."""
    for lists in steps([0], [1, 2])[:2]:
        node = site.make(**lists)
        assert str(site.ports[0]) in node.heartbeat.state.server


async def test_a_connection_that_is_counted_at_the_moment_of_the_change(
    site: Site,
) -> None:
    one = await site.process(hosts=[0], next_hosts=[1])
    census, state = one.part(Census, "ada"), one.heartbeat.state
    await census.enter("ada", "first")
    change = state.change

    async def late(*args: Any) -> Any:
        await until(lambda: one.placement.rings.number)
        return await change(*args)

    state.change = late  # type: ignore[method-assign]
    counted = asyncio.create_task(census.enter("ada", "second"))
    two = await site.process(hosts=[1], previous_hosts=[0])
    assert "second" in [member.id for member in await counted]
    for _ in range(2):
        for heartbeat in one.heartbeats:
            await heartbeat.beat()
    found = await two.part(Census, "ada").enter("ada", "third")
    assert [member.id for member in found] == ["first", "second", "third"]


async def test_a_connection_that_ends_at_the_moment_of_the_change_is_not_counted_later(
    site: Site,
) -> None:
    one = await site.process(hosts=[0], next_hosts=[1])
    census, state = one.part(Census, "ada"), one.heartbeat.state
    await census.enter("ada", "first")
    change = state.change

    async def late(*args: Any) -> Any:
        await until(lambda: one.placement.rings.number)
        return await change(*args)

    state.change = late  # type: ignore[method-assign]
    census.closed("first")
    await asyncio.sleep(0)
    await site.process(hosts=[1], previous_hosts=[0])
    await until(lambda: one.placement.rings.number)
    await asyncio.sleep(0.1)
    del state.change  # type: ignore[attr-defined]
    await one.heartbeat.beat()
    three = await site.process(hosts=[0], previous_hosts=[1])
    await until(lambda: three.placement.rings.number == 2)
    found = await three.part(Census, "ada").enter("ada", "second")
    assert [member.id for member in found] == ["second"]
