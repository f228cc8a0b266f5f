"""Replay: the broadcasts that a client missed, sent after the reply to its join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..concurrency.tasks import CRASHES, must_end
from ..history.recovery import Recovery
from ..logs import get_logger
from ..wire.messages import Broadcast, Message
from .channel import Channel
from .large import decoded

if TYPE_CHECKING:
    from .server import ChannelServer

logger = get_logger("phx_protocol.channel")


async def replay(server: ChannelServer, channel: Channel, recovery: Recovery) -> None:
    """Push the missed broadcasts in order; live ones wait in the mailbox if the channel intercepts.

    They are pushes with a join_ref, so a client that has joined again meanwhile drops them.
    """
    for broadcast in recovery.broadcasts(server.topic):
        if channel is not server.channel:
            return
        if broadcast.event in channel.__phx_tables__.intercepts:
            await _replay_out(server, channel, broadcast)
        else:
            refs = server.channel_join_ref, server.ref_of(broadcast)
            event, payload = broadcast.event, broadcast.payload
            try:
                server.connection.push(Message(*refs, server.topic, event, payload))
            except (
                Exception
            ) as error:  # log it only: a crash would come back at every rejoin
                server.log_not_sent(broadcast, error)


async def _replay_out(
    server: ChannelServer, channel: Channel, broadcast: Broadcast
) -> None:
    """Call ``handle_out``. Skip the broadcast if that crashes: it would crash at every rejoin."""
    handle_out = channel.__phx_tables__.callbacks["handle_out"]
    try:
        async with decoded(server, broadcast) as payload:
            if channel is server.channel:
                with channel.__phx__.handling(broadcast):
                    await handle_out(channel, broadcast.event, payload)
    except CRASHES as error:
        if must_end(error):
            raise
        logger.exception("%s: %r is not replayed", server.topic, broadcast.event)
