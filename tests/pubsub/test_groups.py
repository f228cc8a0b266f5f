"""Membership of groups: what is wanted becomes so, in the order it was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from phx_protocol.pubsub.groups import AT_ONCE, LINGER, LINGERING, Groups
from phx_protocol.pubsub.message import group_name


class Layer:
    """Takes notes; each call waits for the test where it says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0

    async def call(self, what: str, group: str) -> None:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.calls.append((what, group))

    async def group_add(self, group: str, channel: str) -> None:
        await self.call("add", group)

    async def group_discard(self, group: str, channel: str) -> None:
        await self.call("discard", group)


def make() -> tuple[Groups, Layer, list[Any]]:
    layer, reports = Layer(), []
    groups = Groups(layer, reports.append)
    groups.connected("specific.1")
    return groups, layer, reports


async def test_groups_are_added_in_the_order_they_were_asked_for() -> None:
    groups, layer, _ = make()
    await asyncio.gather(*(groups.add(topic) for topic in "dcba"))
    assert layer.calls == [("add", group_name(topic)) for topic in "dcba"]


async def test_a_failed_step_is_tried_again_and_reported() -> None:
    groups, layer, reports = make()
    layer.failures = 2
    await groups.add("a")
    assert "a" in groups
    assert [type(report) for report in reports] == [
        ConnectionError,
        ConnectionError,
        type(None),
    ]


async def test_a_topic_is_discarded_after_a_while_without_subscribers() -> None:
    groups, layer, _ = make()
    await groups.add("a")
    groups.unused("a", 100)
    groups.sweep(100 + LINGER - 1)
    assert "a" in groups
    groups.sweep(100 + LINGER)
    await groups.add("b")  # behind the discard
    assert layer.calls[1] == ("discard", group_name("a"))


async def test_a_topic_wanted_again_while_it_is_discarded_is_added_again() -> None:
    groups, layer, _ = make()
    await groups.add("a")
    groups.unused("a", 100)
    layer.gate.clear()
    groups.sweep(100 + LINGER)
    await asyncio.sleep(0)
    assert "a" not in groups
    again = groups.add("a")
    layer.gate.set()
    await again
    assert "a" in groups
    assert [what for what, _ in layer.calls] == ["add", "discard", "add"]


async def test_a_subscriber_that_took_too_long_to_come_has_its_group_added_again() -> (
    None
):
    groups, layer, _ = make()
    await groups.add("a")
    groups.unused("a", 100)
    groups.sweep(100 + LINGER)
    groups.used("a")
    await groups.add("a")
    assert "a" in groups
    assert [what for what, _ in layer.calls][-1] == "add"


async def test_a_layer_that_forgot_everything_gets_it_all_again() -> None:
    groups, layer, _ = make()
    await asyncio.gather(groups.add("a"), groups.add("b"))
    groups.connected("specific.2")
    await groups.add("c")
    assert sorted(layer.calls[2:]) == sorted(
        ("add", group_name(topic)) for topic in "abc"
    )
    groups.close()
    assert not len(groups)


async def test_a_call_that_outlives_the_end_does_nothing_more() -> None:
    """As below Python 3.12, where redis-py swallows a cancellation now and then."""
    groups, layer, reports = make()
    taken = asyncio.Event()

    async def deaf(group: str, channel: str) -> None:
        taken.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await layer.call("add", group)

    layer.group_add = deaf  # type: ignore[method-assign]
    groups.add("a")
    await taken.wait()
    task = groups._task
    assert task is not None
    groups.close()
    await asyncio.wait({task})
    assert task.cancelled() and reports == []
    assert layer.calls == [("add", group_name("a"))] and "a" not in groups


async def test_a_layer_that_is_cancelled_itself_keeps_nobody_waiting() -> None:
    groups, layer, reports = make()
    add, failed = layer.group_add, []

    async def cancelled_once(group: str, channel: str) -> None:
        if not failed:
            failed.append(group)
            raise asyncio.CancelledError
        await add(group, channel)

    layer.group_add = cancelled_once  # type: ignore[method-assign]
    await asyncio.wait_for(asyncio.gather(groups.add("a"), groups.add("b")), 5)
    assert "a" in groups and "b" in groups
    assert isinstance(reports[0], asyncio.CancelledError)


async def test_topics_that_come_and_go_in_an_outage_leave_nothing_behind() -> None:
    groups, layer, _ = make()
    await groups.add("stays")
    layer.failures = 1_000_000
    steps = []
    for n in range(200):
        steps.append(groups.add(f"room:{n}"))
        groups.unused(f"room:{n}", n)
        await asyncio.sleep(0)
        groups.sweep(n)
    groups.sweep(1000)
    assert len(groups) == 1 and len(groups._steps) <= 1  # the one that was tried
    layer.failures = 0
    await asyncio.gather(*steps)
    assert [call for call in layer.calls if call[0] == "add"] == [
        ("add", group_name("stays"))
    ]


async def test_a_group_is_discarded_even_if_adding_it_may_have_failed() -> None:
    groups, layer, _ = make()
    layer.failures = 1
    added = groups.add("a")
    groups.unused("a", 0)
    await asyncio.sleep(0)
    groups.sweep(LINGER)
    await added
    assert layer.calls == [("discard", group_name("a"))]


async def test_a_group_can_be_joined_at_once() -> None:
    groups, layer, reports = make()
    assert await groups.join("a") and "a" in groups
    assert layer.calls == [("add", group_name("a"))] and reports == [None]
    assert groups.last() is None  # no step was made


async def test_nothing_is_joined_before_its_own_step_or_without_a_channel() -> None:
    """Steps of other topics make no difference: else later joins would be answered first."""
    groups, layer, _ = make()
    layer.gate.clear()
    step = groups.add("a")
    assert not await groups.join("a")
    layer.gate.set()
    await step
    assert await groups.join("b")
    groups.close()
    assert not await groups.join("c") and "c" not in groups


async def test_a_join_at_once_that_fails_is_reported_and_left_to_a_step() -> None:
    groups, layer, reports = make()
    layer.failures = 1
    assert not await groups.join("a") and "a" not in groups
    assert [type(report) for report in reports] == [ConnectionError]
    await groups.add("a")
    assert "a" in groups


async def test_a_join_at_once_does_not_count_for_a_channel_that_has_changed() -> None:
    groups, layer, _ = make()
    layer.gate.clear()
    joining = asyncio.create_task(groups.join("a"))
    await asyncio.sleep(0)
    groups.connected("specific.2")
    layer.gate.set()
    await joining
    step = groups.last()
    if step is not None:
        await step
    assert layer.calls[-1] == ("add", group_name("a")) and "a" in groups


async def test_topics_linger_as_far_as_their_names_may_take_memory() -> None:
    groups, layer, _ = make()
    long, short = [c * (LINGERING // 2) for c in "abc"], "d"
    for topic in (*long, short):
        await groups.add(topic)
        groups.unused(topic, now=0)
    await asyncio.sleep(0)
    assert [topic for topic in (*long, short) if topic in groups] == [long[2], short]
    groups.used(long[2])  # and what is used again takes none
    groups.unused(long[0], now=0)
    assert short in groups


async def test_many_topics_are_left_in_several_turns_of_the_loop() -> None:
    groups, layer, _ = make()
    for n in range(3 * AT_ONCE):
        groups.used(str(n))
        groups.unused(str(n), now=0)
    groups.sweep(LINGER)
    assert len(groups) == 2 * AT_ONCE
    while len(groups):
        await asyncio.sleep(0)
    assert groups._lingering.size == 0
