"""Who is online, and when others were."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from phx_protocol import StateError
from phx_protocol.node.node import get_node
from phx_protocol.state.occupancy import USER, Mark
from phx_protocol.users import alast_seen, aonline, last_seen, online
from tests.support.state import connected
from tests.users.people import Connection, Person

TRACKED = {"TRACK_USERS": True, "OFFLINE_AFTER": 0.000_001}


@pytest.fixture(autouse=True)
def _users_are_tracked() -> Iterator[None]:
    with override_settings(PHX_PROTOCOL=TRACKED):
        yield


async def written() -> None:
    """What has changed is written every second, and with each beat."""
    node = get_node()
    await node.heartbeat.ready()
    await node.heartbeat.beat()


async def test_who_has_a_connection_is_online() -> None:
    node = get_node()
    Connection(node, 7)
    Connection(node, None)
    await written()
    assert await aonline([7, 8]) == {7}


async def test_users_are_asked_for_and_returned_as_the_caller_has_them() -> None:
    ada, bob = Person(7), Person(8)
    Connection(get_node(), 7)
    await written()
    assert await aonline([ada, bob]) == {ada}
    assert await aonline(key for key in ("7", "8")) == {"7"}
    assert (await alast_seen([ada, bob]))[bob] is None


async def test_nobody_is_asked_about_nobody() -> None:
    assert await aonline([]) == set()
    assert await alast_seen([]) == {}


async def test_who_left_was_last_seen_then_and_who_is_here_now() -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    node = get_node()
    Connection(node, 7)
    tab = Connection(node, 8)
    await written()
    tab.close()
    await written()
    between = datetime.datetime.now(datetime.timezone.utc)
    seen = await alast_seen([7, 8, 9])
    assert seen[9] is None
    assert before < seen[8] < between < seen[7]
    assert await aonline([7, 8, 9]) == {7}


async def test_who_left_a_moment_ago_is_online_still() -> None:
    with override_settings(PHX_PROTOCOL={**TRACKED, "OFFLINE_AFTER": 100}):
        node = get_node()
        tab = Connection(node, 7)
        await written()
        tab.close()
        await written()
        assert await aonline([7]) == {7}


async def test_a_user_is_online_as_long_as_one_connection_is_open() -> None:
    node = get_node()
    tabs = [Connection(node, 7) for _ in range(3)]
    await written()
    for tab in tabs[:2]:
        tab.close()
        await written()
        assert await aonline([7]) == {7}


async def test_a_connection_that_comes_and_goes_within_a_second_costs_no_call() -> None:
    node = get_node()
    await written()
    Connection(node, 7).close()
    await written()
    assert await alast_seen([7]) == {7: None}


def test_they_are_asked_from_synchronous_code() -> None:
    assert online([7]) == set()
    assert last_seen([7]) == {7: None}


async def test_a_state_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    state = get_node().heartbeat.state

    async def fails(*args: object) -> None:
        raise StateError("the state is away")

    monkeypatch.setattr(type(state.occupancy("user")), "look", fails)
    with pytest.raises(StateError):
        await aonline([7])


async def test_a_project_that_does_not_track_users_is_told_so() -> None:
    with override_settings(PHX_PROTOCOL={}):
        with pytest.raises(ImproperlyConfigured, match="TRACK_USERS"):
            await aonline([7])
        with pytest.raises(ImproperlyConfigured, match="TRACK_USERS"):
            await alast_seen([7])


async def test_hundreds_of_users_are_one_round_trip(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = connected(redis_url)
    steps: list[str] = []
    evaluate = state._client.eval

    async def counted(*args: Any) -> Any:
        steps.append("asked")
        answer = await evaluate(*args)
        steps.append("answered")
        return answer

    try:
        occupancy = state.occupancy(USER)
        await occupancy.mark("a", [Mark(f"{n}", True) for n in range(250)], 5.0)
        monkeypatch.setattr(get_node().heartbeat, "state", state)
        monkeypatch.setattr(state._client, "eval", counted)
        assert await aonline(range(500)) == set(range(250))
    finally:
        await state.close()
    # all is asked before anything is answered
    calls = len(steps) // 2
    assert calls > 1 and steps == ["asked"] * calls + ["answered"] * calls
