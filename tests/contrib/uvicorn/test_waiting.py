"""What uvicorn's protocol waits with behaves as asyncio's queue and event do."""

from __future__ import annotations

import asyncio
from typing import Any

from phx_protocol.contrib.uvicorn.waiting import Gate, Inbox


async def get(inbox: Inbox) -> Any:
    while inbox.empty():
        await inbox.filled()
    return inbox.get_nowait()


async def test_an_inbox_gives_out_messages_in_order() -> None:
    inbox, got = Inbox(), []

    async def take() -> None:
        got.append(await get(inbox))

    waiting = [asyncio.create_task(take()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    inbox.put_nowait(1)
    inbox.put_nowait(2)
    inbox.put_nowait(3)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert got == [1, 2] and not inbox.empty()
    assert await get(inbox) == 3
    assert inbox.empty()


async def test_a_cancelled_wait_loses_no_message() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(get(inbox))
    await asyncio.sleep(0)
    inbox.put_nowait("kept")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not inbox.empty() and await get(inbox) == "kept"


async def test_a_gate_lets_all_pass_while_it_is_open() -> None:
    gate = Gate()
    assert gate.is_set()
    await gate.wait()
    gate.clear()
    gate.clear()
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not gate.is_set() and not any(task.done() for task in waiting)
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    gate.set()
    await asyncio.gather(*waiting[1:])
    assert gate.is_set()
