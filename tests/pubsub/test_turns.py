"""Messages of other processes are taken in turns of the event loop."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from phx_protocol.pubsub import message
from phx_protocol.pubsub.turns import HELD, MANY, Turns
from phx_protocol.wire.messages import Broadcast


async def test_many_small_messages_do_not_hold_the_event_loop_either() -> None:
    found: list[int] = []

    def take_now(message: Any) -> None:
        time.sleep(HELD / 5)
        found.append(message["n"])

    def take_each(message: Any) -> Iterator[None]:
        take_now(message)
        yield

    turns, seen = Turns(take_now, take_each), []
    for n in range(30):  # as they are in one read of a connection
        turns.take({"type": "phx.relay", "n": n})
    assert len(found) < 10
    while len(found) < 30:
        seen.append(len(found))
        await asyncio.sleep(0)
    assert found == list(range(30))
    assert max(b - a for a, b in zip([0, *seen], seen)) <= 7


async def test_who_sends_goes_on_when_few_messages_wait() -> None:
    turns = Turns(lambda message: time.sleep(HELD), lambda message: iter(()))
    for _ in range(MANY + 2):
        turns.take({"type": "phx.relay"})
    assert turns.is_behind
    while turns._late:
        await asyncio.sleep(0)
    assert not turns.is_behind


@pytest.mark.parametrize("items", [1, None, "ab", {"a": 1, "b": 2}])
async def test_items_of_another_kind_are_for_who_reads_the_message(items: Any) -> None:
    found: list[Any] = []
    Turns(found.append, lambda message: iter(())).take({"items": items})
    assert found == [{"items": items}]


async def test_many_broadcasts_in_one_message_do_not_hold_the_event_loop() -> None:
    """Nothing overtakes them meanwhile, as the mark of a sender says that all before it has arrived."""
    found: list[Any] = []

    def take_each(message: Any) -> Iterator[None]:
        for item in message.get("items", ()):
            time.sleep(HELD / 3)
            found.append(item["event"])
            yield
        found.extend({"mark"} & {message.get("do")})

    def take_now(message: Any) -> None:
        collections.deque(take_each(message), maxlen=0)

    turns, seen = Turns(take_now, take_each), []
    items = [
        message.pack_item(Broadcast("a", f"{n}", msgspec.Raw(b"{}"))) for n in range(30)
    ]
    turns.take(message.pack(items, "other"))
    turns.take({"type": "phx.relay", "do": "mark"})
    turns.take(message.pack(items[:2], "other"))
    while len(found) < 33:
        seen.append(len(found))
        await asyncio.sleep(0)
    assert found == [*(f"{n}" for n in range(30)), "mark", "0", "1"]
    assert max(b - a for a, b in zip([0, *seen], seen)) <= 5
    # the last one may have ended its turn before it was known to be the last
    while turns._late:
        await asyncio.sleep(0)
    turns.take({"type": "phx.relay", "do": "mark"})
    assert found[33:] == ["mark"]
