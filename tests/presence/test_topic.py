"""The presences of one topic: metas, keys, updates, and who may change what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import AlreadyTracked, EncodeError, NotTracked
from phx_protocol.exceptions import StateError
from phx_protocol.node.node import get_node
from phx_protocol.presence.entries import Diff
from phx_protocol.presence.replica import Hint
from phx_protocol.presence.tracker import Trackers
from phx_protocol.state import NOWHERE, STEP, Position
from tests.presence.hints import entry
from tests.presence.rooms import TOPIC, Base, Enter, Merging, Plain, enter

__all__ = ["enter"]


async def test_an_update_is_one_diff_that_names_what_it_replaces(enter: Enter) -> None:
    tab = await enter("ada")
    first = await Plain.get(TOPIC, "ada")
    assert first is not None
    old = first["metas"][0]["phx_ref"]
    ref = await Plain.update(tab.channel, "ada", {"of": "update"})
    await tab.until(lambda: len(tab.shown.diffs) == 2, "the diff of the update")
    assert tab.shown.diffs[-1] == {
        "joins": {
            "ada": {"metas": [{"of": "update", "phx_ref": ref, "phx_ref_prev": old}]}
        },
        "leaves": {"ada": first},
    }
    assert ref != old
    assert tab.shown.state == await Plain.list(TOPIC)


async def test_an_update_may_be_made_from_the_old_meta(enter: Enter) -> None:
    tab = await enter("ada")
    seen: list[Any] = []

    def grow(old: Any) -> Any:
        seen.append(dict(old))
        return {**old, "n": old.get("n", 0) + 1}

    await Plain.update(tab.channel, "ada", grow)
    last = await Plain.update(tab.channel, "ada", grow)
    # the refs are ours, and no part of what was tracked
    assert seen == [{"of": "ada"}, {"of": "ada", "n": 1}]
    found = await Plain.get(TOPIC, "ada")
    assert found is not None
    (meta,) = found["metas"]
    assert (meta["n"], meta["phx_ref"]) == (2, last)
    await tab.shows("ada")


async def test_an_update_that_raises_changes_nothing(enter: Enter) -> None:
    tab = await enter("ada")
    before = await Plain.list(TOPIC)

    def crash(old: Any) -> Any:
        raise LookupError

    for wrong, error in (
        (crash, LookupError),
        ({"a": object()}, EncodeError),
        (["no mapping"], TypeError),
    ):
        with pytest.raises(error):
            await Plain.update(tab.channel, "ada", wrong)  # type: ignore[arg-type]
    assert await Plain.list(TOPIC) == before
    await Plain.update(tab.channel, "ada", {"of": "a right one"})


async def test_metas_of_a_key_keep_their_places_when_one_is_updated(
    enter: Enter,
) -> None:
    tabs = [await enter(name, "silent:1") for name in "abc"]
    for tab in tabs:
        await Plain.track(tab.channel, "ada", {"device": tab.name})
    for at, tab in enumerate(tabs):
        await Plain.update(tab.channel, "ada", lambda m: {"device": m["device"] * 2})
        found = await Plain.get("silent:1", "ada")
        assert found is not None
        devices = [meta["device"] for meta in found["metas"]]
        assert devices == [n * 2 if at >= i else n for i, n in enumerate("abc")]


async def test_a_key_is_there_until_its_last_meta_is_gone(enter: Enter) -> None:
    watcher = await enter("watcher")
    for name in ("phone", "laptop"):
        await enter(name, "silent:x")
        await Plain.track(Base.joined[name], "ada", {"of": name}, topic=TOPIC)
    await watcher.shows("ada", "ada", "watcher")
    assert watcher.shown.metas("of")["ada"] == ["laptop", "phone"]
    await Plain.untrack(Base.joined["phone"], "ada", topic=TOPIC)
    await watcher.shows("ada", "watcher")
    assert watcher.shown.metas("of")["ada"] == ["laptop"]
    await Plain.untrack(Base.joined["laptop"], topic=TOPIC)
    await watcher.shows("watcher")


async def test_a_channel_tracks_a_key_once_and_others_may_too(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    with pytest.raises(AlreadyTracked, match="'key' is tracked on 'silent:1'"):
        await Plain.track(ada.channel, "key", {})
    await Plain.track(ada.channel, "another key", {})
    await Plain.track(bob.channel, "key", {})
    await Plain.track(ada.channel, "key", {}, topic="silent:2")
    await Merging.track(ada.channel, "key", {})  # another class
    await Plain.untrack(ada.channel, "key")
    await Plain.track(ada.channel, "key", {})


async def test_a_track_that_raises_has_tracked_nothing(enter: Enter) -> None:
    channel = (await enter("a", "silent:1")).channel
    for meta, error in (
        ({"a": object()}, EncodeError),
        ("text", TypeError),
        (None, TypeError),
        ([("a", 1)], TypeError),
    ):
        with pytest.raises(error):
            await Plain.track(channel, "key", meta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a key"):
        await Plain.track(channel, None, {})
    assert await Plain.list("silent:1") == {}
    await Plain.track(channel, "key", {})


async def test_only_a_tracked_presence_can_be_updated(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    for channel, key in ((bob.channel, "key"), (ada.channel, "other")):
        with pytest.raises(NotTracked, match="is not tracked on 'silent:1'"):
            await Plain.update(channel, key, {})
    with pytest.raises(NotTracked):
        await Plain.update(ada.channel, "key", {}, topic="silent:2")
    await Plain.untrack(ada.channel)
    with pytest.raises(NotTracked):
        await Plain.update(ada.channel, "key", {})


async def test_untracking_an_untracked_key_is_no_error(enter: Enter) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    await Plain.track(ada.channel, "key", {})
    await Plain.untrack(bob.channel, "key")
    await Plain.untrack(bob.channel)
    await Plain.untrack(ada.channel, "other")
    assert list(await Plain.list("silent:1")) == ["key"]


async def test_untrack_without_a_key_ends_all_of_a_channel_on_a_topic(
    enter: Enter,
) -> None:
    ada, bob = await enter("a", "silent:1"), await enter("b", "silent:1")
    for key in ("one", "two"):
        await Plain.track(ada.channel, key, {})
    await Plain.track(ada.channel, "far", {}, topic="silent:2")
    await Plain.track(bob.channel, "one", {})
    await Plain.untrack(ada.channel)
    assert list(await Plain.list("silent:1")) == ["one"]
    assert list(await Plain.list("silent:2")) == ["far"]


async def test_a_client_hears_of_the_end_of_what_it_was_sent_before_the_first_reading(
    enter: Enter,
) -> None:
    """Another process tells of a presence that the state, when it is read, does not have."""
    tab = await enter("watcher", "silent:1")
    topic = get_node().part(Trackers).of(Plain).topic("silent:1")
    topic.take(Hint(NOWHERE, Position("e", 1), Diff([entry(1, "ada")])))
    await tab.until(lambda: tab.shown.diffs, "the diff")
    assert list(tab.shown.diffs[-1]["joins"]) == ["ada"]
    assert await Plain.list("silent:1") == {}
    await tab.until(lambda: len(tab.shown.diffs) == 2, "the second diff")
    assert list(tab.shown.diffs[-1]["leaves"]) == ["ada"]


async def test_clients_do_not_see_those_leave_that_are_here_though_the_lease_has_ended(
    enter: Enter,
) -> None:
    """A process that was too slow is taken for dead by others, before it hears of that itself."""
    tab = await enter("watcher", "silent:1")
    await Plain.track("silent:1", "bob", {})
    await tab.until(lambda: tab.shown.diffs, "the diff")
    topic = get_node().part(Trackers).of(Plain).topic("silent:1")
    beat = get_node().heartbeat
    _, written = await beat.state.entries(topic.group)
    await beat.state.leave(beat.name)
    await topic._read_soon()
    await beat.beat()
    await topic._read_soon()
    assert (await beat.state.entries(topic.group))[1] == written != {}
    await Plain.track("silent:1", "eve", {})
    await tab.until(lambda: len(tab.shown.diffs) > 1, "the second diff")
    assert [list(diff["joins"]) for diff in tab.shown.diffs] == [["bob"], ["eve"]]


async def test_very_many_changes_at_once_are_made_in_steps(enter: Enter) -> None:
    """The state takes no step with more entries than STEP; the clients see all of them."""
    tab = await enter("ada")
    keys = [f"k{i}" for i in range(2 * STEP + 7)]
    await asyncio.gather(*(Merging.track(TOPIC, key, {}) for key in keys))
    assert (await Merging.list(TOPIC)).keys() >= {*keys}
    topic = get_node().part(Trackers).of(Merging).topic(TOPIC)
    position, found = await get_node().heartbeat.state.entries(topic.group)
    assert position.n == len(found) == len(keys) and not topic.is_dirty
    await asyncio.gather(*(Merging.untrack(TOPIC, key) for key in keys))
    assert not (await Merging.list(TOPIC)).keys() & {*keys}
    position, found = await get_node().heartbeat.state.entries(topic.group)
    assert (position.n, found) == (2 * len(keys), {})
    await tab.shows("ada")


async def test_changes_of_which_the_state_took_only_a_part_are_mended(
    enter: Enter,
) -> None:
    await enter("ada")
    keys = [f"k{i}" for i in range(STEP + 7)]
    await asyncio.gather(*(Merging.track(TOPIC, key, {}) for key in keys))
    beat = get_node().heartbeat
    change = beat.state.change

    async def and_then_fail(*args: Any) -> Any:
        found = await change(*args)
        beat.outage.report(StateError("another call has failed"))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beat.state, "change", and_then_fail)
        await asyncio.gather(*(Merging.untrack(TOPIC, key) for key in keys))
    topic = get_node().part(Trackers).of(Merging).topic(TOPIC)
    assert len((await beat.state.entries(topic.group))[1]) == 7
    await beat.beat()
    assert (await beat.state.entries(topic.group))[1] == {}
