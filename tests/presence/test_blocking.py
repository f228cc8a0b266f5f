"""The calls of a presence for threads and scripts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from phx_protocol import AlreadyTracked, NotTracked
from tests.presence.rooms import TOPIC, Enter, Plain, enter

__all__ = ["enter"]


async def test_a_thread_has_the_same_calls(enter: Enter) -> None:
    tab = await enter("ada")

    def work() -> Any:
        presence = Plain.sync
        ref = presence.track(TOPIC, "thread", {"n": 1})
        new = presence.update(TOPIC, "thread", lambda m: {"n": m["n"] + 1})
        got = presence.get(TOPIC, "thread")
        assert got == {"metas": [{"n": 2, "phx_ref": new, "phx_ref_prev": ref}]}
        presence.track(tab.channel, "of the channel", {})
        listed = sorted(presence.list(TOPIC))
        with pytest.raises(AlreadyTracked):
            presence.track(TOPIC, "thread", {})
        with pytest.raises(NotTracked):
            presence.update(TOPIC, "nobody", {})
        return listed

    listed = await asyncio.to_thread(work)
    assert listed == ["ada", "of the channel", "thread"]
    await tab.shows(*listed)
    await asyncio.to_thread(Plain.sync.untrack, TOPIC, "thread")
    await tab.shows("ada", "of the channel")


async def test_on_an_event_loop_the_sync_calls_name_the_async_ones() -> None:
    with pytest.raises(
        RuntimeError, match=r"Plain\.sync\.track\(\) blocks.*`await Plain\.track"
    ):
        Plain.sync.track(TOPIC, "key", {})
    for call in (Plain.sync.list, Plain.sync.untrack):
        with pytest.raises(RuntimeError, match="blocks: on an event loop it is `await"):
            call(TOPIC)
    with pytest.raises(RuntimeError):
        Plain.sync.get(TOPIC, "key")
    with pytest.raises(RuntimeError):
        Plain.sync.update(TOPIC, "key", {})
    assert await Plain.list(TOPIC) == {}


def test_a_script_without_a_server_tracks_and_lists() -> None:
    ref = Plain.sync.track("script:1", "job", {"n": 1})
    found = Plain.sync.list("script:1")
    assert found == {"job": {"metas": [{"n": 1, "phx_ref": ref}]}}
    Plain.sync.untrack("script:1", "job")
    assert Plain.sync.list("script:1") == {}
