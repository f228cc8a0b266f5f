"""Messages of other processes are taken in turns of the event loop."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from phx_protocol.pubsub import message
from phx_protocol.pubsub.turns import HELD, Turns
from phx_protocol.wire.messages import Broadcast


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
