"""What clients see of presences while their topics move to another server of the state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol.presence.replica import MAX_EARLY_HINTS
from phx_protocol.state import State
from tests.node import test_placement
from tests.node.test_placement import Hearing, Site, desks, until

site = test_placement.site

TOPIC = "room:1"


async def watched(node: Any, patch: pytest.MonkeyPatch) -> list[Any]:
    """The diffs that the clients of `node` see from now on."""
    diffs: list[Any] = []
    Hearing(node, TOPIC)
    await desks(node).roster(TOPIC)
    await asyncio.sleep(0.3)  # its own
    patch.setattr(desks(node).topic(TOPIC)._diff_sender, "put", diffs.append)
    return diffs


def left(diffs: list[Any], key: str) -> bool:
    return any(e.key == key for diff in diffs for e in diff.leaves.values())


async def test_nobody_leaves_though_a_process_learns_of_the_change_with_its_last_beat(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, late = [await site.process(hosts=[0], next_hosts=[1]) for _ in range(2)]
    await desks(late).track(None, TOPIC, "ada", {})
    diffs = await watched(one, monkeypatch)
    beats = [heartbeat.beat for heartbeat in late.heartbeats]
    for heartbeat in late.heartbeats:
        monkeypatch.setattr(heartbeat, "beat", lambda: asyncio.sleep(0.05))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(State, "beat_every", 2.0)  # time for a machine that is busy
    await site.process(hosts=[1], previous_hosts=[0])
    await until(lambda: one.placement.rings.number)
    # its beat is due a whole beat later, and it has much to do in it
    await asyncio.sleep(2.3)
    for beat in (*beats, *beats):
        await beat()
    await asyncio.sleep(2.5)
    assert not left(diffs, "ada")


async def test_nobody_leaves_though_many_come_and_go_during_the_change(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, late = [await site.process(hosts=[0], next_hosts=[1]) for _ in range(2)]
    await desks(late).track(None, TOPIC, "ada", {})
    diffs = await watched(one, monkeypatch)
    beats = [heartbeat.beat for heartbeat in late.heartbeats]
    for heartbeat in late.heartbeats:
        monkeypatch.setattr(heartbeat, "beat", lambda: asyncio.sleep(0.05))
    await asyncio.sleep(0.1)
    two = await site.process(hosts=[1], previous_hosts=[0])
    for n in range(MAX_EARLY_HINTS):
        await desks(two).track(None, TOPIC, f"user{n}", {})
        await desks(two).untrack(None, TOPIC, f"user{n}")
    for beat in (*beats, *beats):
        await beat()
    await asyncio.sleep(3 * two.heartbeat.state.beat_every)
    assert not left(diffs, "ada")
