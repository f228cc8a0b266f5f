"""Diffs on their way to clients: when they go out, what is fetched for them, and who hears of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from phx_protocol import Presence
from phx_protocol.node.node import get_node
from phx_protocol.presence.tracker import Trackers
from phx_protocol.testing.clients import TIMEOUT
from tests.presence.rooms import (
    TOPIC,
    Enter,
    Merging,
    Named,
    Plain,
    PlainChannel,
    enter,
)

__all__ = ["enter"]


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


async def test_an_intercepted_diff_passes_through_handle_out(enter: Enter) -> None:
    ada, bob = await enter("ada", "filtering:1"), await enter("bob", "filtering:1")
    await Plain.track("filtering:1", "secret", {})
    await Plain.track("filtering:1", "known", {})
    for tab in (ada, bob):
        await tab.shows("ada", "bob", "known")
        assert {diff["for"] for diff in tab.shown.diffs} == {tab.name}  # type: ignore[comparison-overlap]
    assert "secret" in await Plain.list("filtering:1")


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
    await watcher.catch_up()
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
    await watcher.catch_up()
    assert list(watcher.shown.diffs[-1]["joins"]) == ["key"]
    await Merging.untrack("merging:1")


async def test_many_joins_at_once_make_few_frames(enter: Enter) -> None:
    tabs = await asyncio.gather(*(enter(f"n{n}", "merging:2") for n in range(50)))
    names = [tab.name for tab in tabs]
    for tab in tabs:
        await tab.shows(*names)
        assert len(tab.shown.diffs) <= 6
        assert tab.events.count("presence_state") == 1


async def test_a_client_that_joins_while_changes_wait_gets_them_too(
    enter: Enter,
) -> None:
    """In the state that it gets are changes that no other client got yet; what undoes them must
    reach it, though for all others nothing has happened."""
    watcher = await enter("watcher", "merging:1")  # its diff begins an interval
    await Merging.track("merging:1", "brief", {})
    late = await enter("late", "merging:1")
    assert list(late.shown.states[0]) == ["watcher", "brief"]
    await Merging.untrack("merging:1", "brief")
    await watcher.shows("late", "watcher")
    await late.shows("late", "watcher")


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
    await tab.catch_up()
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


async def test_handle_metas_gets_every_diff_and_all_presences_after_it(
    enter: Enter,
) -> None:
    tab = await enter("ada", "named:1")
    await Named.track("named:1", "bob", {})
    await Named.update("named:1", "bob", {"a": 1})
    await Named.untrack("named:1", "bob")
    await tab.until(lambda: len(Named.diffs) == 4, "four calls")
    assert [diff[:2] for diff in Named.diffs] == [
        (["ada"], []),
        (["bob"], []),
        (["bob"], ["bob"]),
        ([], ["bob"]),
    ]
    assert Named.diffs[-1][2] == ["ada"]


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
