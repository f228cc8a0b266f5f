"""Large payloads: only some of them may be decoded at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..wire import protocol
from ..wire.messages import Broadcast, Message
from ..wire.protocol import Action
from ..wire.serializers import decode_payload, with_payload
from .budget import Budget
from .loop_budgets import LARGE, loop_budgets, room, size_of, turn

if TYPE_CHECKING:
    from .server import ChannelServer


async def handle_large(server: ChannelServer, message: Message, size: int) -> None:
    """Let `server` handle a frame of `size` bytes, when there is room for the decoded payload."""
    budget = server.connection.backlog.budget
    await budget.take(size)
    try:
        async with contextlib.AsyncExitStack() as room_for_it:
            async with budget.turn_as_new(size):
                await room_for_it.enter_async_context(room(message.payload))
                async with turn(size, budget):
                    if not _is_for_channel(server, message):
                        return
                    with budget.charged():
                        message = with_payload(message)
            await _handle_decoded(server, message, budget)
    finally:
        budget.give_back(size)


async def _handle_decoded(
    server: ChannelServer, message: Message, budget: Budget
) -> None:
    await budget.pause()
    if _is_for_channel(server, message):
        await server.handle(message)
    # again: freeing the decoded payload takes time as well
    await budget.pause()


def _is_for_channel(server: ChannelServer, message: Message) -> bool:
    """Return True if a message that waited is still for the channel; else answer it."""
    if server.connection.is_cut_off:
        return False
    is_joined = server.channel is not None
    action = protocol.classify(message, is_joined, server.join_ref)
    if action in (Action.DELIVER, Action.JOIN, Action.REJOIN):
        return True
    server.connection.answer(action, message)
    return False


@contextlib.asynccontextmanager
async def decoded(
    server: ChannelServer, broadcast: Broadcast, payer: Budget | None = None
) -> AsyncIterator[Any]:
    """Decode the payload of a broadcast for `server` alone, which handles it within the block.

    A large one waits until there is room for it. Its receiver does not pay for the time, as it has
    not sent it: `payer` does, or the loop.
    """
    size = size_of(broadcast.payload)
    if size < LARGE:
        yield decode_payload(broadcast)
        return
    async with room(broadcast.payload):
        async with turn(size, payer):
            with (payer or loop_budgets().turns).charged():
                payload = decode_payload(broadcast)
        before = server.size, server.payer
        server.size, server.payer = size, payer  # also within a join, which replays
        try:
            yield payload
        finally:
            server.size, server.payer = before
