"""What a node writes of its names: whatever fails meanwhile, in the end the state knows who is here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol import StateError
from phx_protocol.node.node import Node, get_node
from phx_protocol.state.occupancy import USER, Mark
from phx_protocol.users import aonline
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
    assert await aonline([7]) == {7}
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
    online = [("user_online", "7"), ("user_online", "8")]
    await told.until(*online, ("user_offline", "7"))


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
