"""send_waiting() and asend_waiting(): send what waits now, for tests and ``phx_outbox --once``."""

from __future__ import annotations

from channels.db import database_sync_to_async

from ..node import blocking


def send_waiting(using: str | None = None) -> int:
    """Send the rows that are waiting, and return how many were sent.

    It is for tests, in which no relay runs: it reads through the connection of this thread, so it sees
    what a transaction has written that is not committed. `using` names the database. Raises
    BroadcastError if some could not be sent, RuntimeError on a running event loop.
    """
    from .turns import Turns

    turns = Turns(using)
    try:
        while (batch := turns.read()).rows:
            sending = turns.send(batch)
            blocking.run(sending, "send_waiting", "await asend_waiting(...)")
    finally:
        turns.leave()
    return turns.sent


async def asend_waiting(using: str | None = None) -> int:
    """Do what ``send_waiting`` does, on an event loop."""
    from .turns import Turns

    turns = Turns(using)
    try:
        while (batch := await database_sync_to_async(turns.read)()).rows:
            await turns.send(batch)
    finally:
        await database_sync_to_async(turns.leave)()
    return turns.sent
