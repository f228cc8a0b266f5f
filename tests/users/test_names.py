"""What a node writes of its names: whatever fails meanwhile, in the end the state knows who is here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import StateError
from phx_protocol.node.node import Node, get_node
from phx_protocol.state.occupancy import USER, Mark
from phx_protocol.users import aonline
from phx_protocol.users.teller import Teller
from tests.support.state import end_lease
from tests.users.people import Connection
from tests.users.told import Told, told

__all__ = ["told"]


@pytest.fixture(autouse=True)
def _users_are_tracked() -> Iterator[None]:
    with override_settings(
        PHX_PROTOCOL={"TRACK_USERS": True, "OFFLINE_AFTER": 0.000_001}
    ):
        yield


class Failing:
    """Makes the state fail when names are marked: before it has done that, or after."""

    def __init__(self, patched: pytest.MonkeyPatch, node: Node) -> None:
        self.is_on = False
        self.is_done = False
        self.marks: list[list[Mark]] = []
        occupancy = node.heartbeat.state.occupancy(USER)
        mark = occupancy.mark

        async def may_fail(of: str, marks: list[Mark], delay: float) -> Any:
            if not self.is_on:
                self.marks.append(marks)
                return await mark(of, marks, delay)
            if self.is_done:
                await mark(of, marks, delay)
            raise StateError("the state is away")

        patched.setattr(occupancy, "mark", may_fail)


ONLINE = [("user_online", "7"), ("user_online", "8")]


async def a_second() -> None:
    node = get_node()
    await node.heartbeat.ready()
    await node.heartbeat.beat()


@pytest.mark.parametrize("is_done", [False, True])
async def test_what_could_not_be_written_is_written_later(
    is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = get_node()
    await a_second()
    failing = Failing(monkeypatch, node)
    gone = Connection(node, 8)
    await a_second()
    failing.is_on, failing.is_done = True, is_done
    Connection(node, 7)
    Connection(node, 9).close()
    gone.close()
    await a_second()
    failing.is_on = False
    await a_second()
    assert await aonline([7, 8, 9]) == {7}


async def test_who_leaves_while_it_is_not_known_whether_he_came_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = get_node()
    await a_second()
    failing = Failing(monkeypatch, node)
    failing.is_on = failing.is_done = True
    tab = Connection(node, 7)
    await a_second()
    (seen,) = await node.heartbeat.state.occupancy(USER).look(["7"], 0.0)
    assert seen.is_here
    tab.close()
    failing.is_on = False
    await a_second()
    assert await aonline([7]) == set()


async def test_only_what_has_changed_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = get_node()
    Connection(node, 7)
    await a_second()
    failing = Failing(monkeypatch, node)
    Connection(node, 7)
    Connection(node, 8)
    await a_second()
    await a_second()
    assert failing.marks == [[Mark("8", True)]]


async def test_a_state_that_lost_all_is_told_again_and_nobody_else_is(
    told: Told,
) -> None:
    node = get_node()
    tabs = [Connection(node, 7), Connection(node, 8)]
    await a_second()
    await told.until(("user_online", "7"), ("user_online", "8"))
    await a_second()
    await node.heartbeat.state.lost()
    tabs[0].close()
    await a_second()
    assert await aonline([7, 8]) == {8}
    await told.until(*ONLINE, ("user_offline", "7"))


async def test_who_had_left_when_the_state_lost_all_is_told_to_have_left(
    told: Told,
) -> None:
    with override_settings(PHX_PROTOCOL={"TRACK_USERS": True, "OFFLINE_AFTER": 1.5}):
        node = get_node()
        tabs = [Connection(node, 7), Connection(node, 8)]
        await a_second()
        await told.until(*ONLINE)
        tabs[0].close()
        await a_second()
        await node.heartbeat.state.lost()
        await a_second()
        await told.until(*ONLINE, ("user_offline", "7"))


async def test_who_was_not_told_when_the_state_lost_all_is_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = get_node()
    await a_second()
    with monkeypatch.context() as busy:
        busy.setattr(Teller, "work", lambda self: None)
        for pk in (7, 8):
            Connection(node, pk)
        await a_second()
        await node.heartbeat.state.lost()
        await a_second()
        assert told.said == []
    await told.until(*ONLINE)


async def test_who_was_told_to_have_left_while_his_node_was_away_is_told_to_be_back(
    told: Told,
) -> None:
    """A node that is paused for longer than its lease, with its connections."""
    node, other = get_node(), Node()
    other.keep_alive("the test")
    Connection(node, 7)
    await a_second()
    await told.until(("user_online", "7"))
    await end_lease(node.heartbeat.state, node.heartbeat.name)
    await other.heartbeat.beat()
    await other.heartbeat.beat()
    await told.until(("user_online", "7"), ("user_offline", "7"))
    await a_second()
    await told.until(("user_online", "7"), ("user_offline", "7"), ("user_online", "7"))
    await other.close()


async def test_a_node_that_stopped_and_starts_again_writes_all_it_has(
    told: Told,
) -> None:
    node = get_node()
    tab = Connection(node, 7)
    await a_second()
    await told.until(("user_online", "7"))
    await node.heartbeat.stop()
    tab.close()
    Connection(node, 8)
    Connection(node, 7)
    await a_second()
    assert await aonline([7, 8]) == {7, 8}


async def test_a_write_that_is_cancelled_is_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = get_node()
    await a_second()

    async def cancelled(*args: Any) -> Any:
        raise asyncio.CancelledError

    with monkeypatch.context() as away:
        away.setattr(node.heartbeat.state.occupancy(USER), "mark", cancelled)
        Connection(node, 7)
        await a_second()
    await a_second()
    assert await aonline([7]) == {7}


async def test_the_names_of_a_node_that_was_buried_too_early_come_back(
    told: Told,
) -> None:
    node = get_node()
    Connection(node, 7)
    await a_second()
    await told.until(("user_online", "7"))
    await node.heartbeat.state.leave(node.heartbeat.name)
    await a_second()
    assert await aonline([7]) == {7}


async def test_what_was_written_with_an_old_name_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = get_node()
    await a_second()
    state = node.heartbeat.state
    occupancy = state.occupancy(USER)
    mark = occupancy.mark
    old = node.heartbeat.name

    async def too_late(of: str, marks: list[Mark], delay: float) -> Any:
        if of == old:
            node.heartbeat._lose()
        return await mark(of, marks, delay)

    monkeypatch.setattr(occupancy, "mark", too_late)
    Connection(node, 7)
    await a_second()
    await state.leave(old)
    await a_second()
    assert await aonline([7]) == {7}
