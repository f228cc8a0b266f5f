"""What the sockets of small rooms count as lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from benchmarks import rooms
from benchmarks.phxload import Load, Sock
from benchmarks.rooms import Hall

ARGV = ["rooms", "--url=ws://x", "--server-pid=1", "--size=2", "--rates=1000,2000"]


class Rated(Hall):
    """A hall in which a rate above `bears` leaves something behind."""

    bears = 1000

    async def at(self, rate: float) -> dict[str, float]:
        late = rate > self.bears
        return {"lost": 0, "behind_s": 0.9 * late, "p99_ms": 1.0, "cpu": rate}


def hall(kind: type[Hall] = Hall) -> Any:
    return kind(Load(rooms.parse(ARGV)))


def shout(topic: str) -> bytes:
    stamp = f"#{time.monotonic_ns():019d}"
    return f'[null,null,"{topic}","shout",{{"t":"{stamp}"}}]'.encode()


async def test_deliveries_and_replies_that_do_not_come_are_missing() -> None:
    seats, sock, own = hall(), Sock(), b'"room:r1"'
    seats.sent = 1  # to two sockets, and one reply
    assert seats.missing() == 3
    seats.on_message(own, sock, shout("room:r1"))
    seats.on_message(own, sock, b'["1","2","room:r1","phx_reply",{}]')
    assert seats.missing() == 1


async def test_a_message_of_another_room_is_no_delivery() -> None:
    seats = hall()
    seats.on_message(b'"room:r1"', Sock(), shout("room:r11"))
    assert len(seats.latencies) == 0


@pytest.mark.parametrize(("bears", "rates"), [(1000, [1000, 2000]), (500, [1000])])
def test_after_a_rate_that_is_too_much_no_higher_one_is_tried(
    bears: int, rates: list[int]
) -> None:
    seats = hall(Rated)
    seats.bears = bears
    found = asyncio.run(rooms.at_all(seats))
    assert [rate for rate in (1000, 2000) if f"cpu_{rate}" in found] == rates


@pytest.mark.parametrize(("bears", "rate"), [(2000, 2000), (1000, 1000), (500, 0)])
def test_the_highest_rate_is_the_last_that_is_not_too_much(
    bears: int, rate: int
) -> None:
    seats = hall(Rated)
    seats.bears = bears
    assert asyncio.run(rooms.highest(seats))["messages_per_s"] == rate
