"""Authorization: whether a client may be in a channel, at its join and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..concurrency.tasks import CRASHES, must_end
from ..logs import get_logger
from ..logs.printable import shown
from ..wire.reasons import Reason, Refusal
from .endings import report_crash
from .refusals import refusals

if TYPE_CHECKING:
    from .channel import Channel
    from .server import ChannelServer

logger = get_logger("phx_protocol.channel")


async def is_authorized(channel: Channel) -> bool:
    """Return whether the user meets what the class requires, and ``authorize`` returns True.

    Raises TypeError if it returns anything but True or False.
    """
    connection = channel.__phx__.server.connection
    await connection.rights.are_current()
    tables = channel.__phx_tables__
    requirement = tables.requirement
    if requirement and not await requirement.is_met_by(connection.socket.user):
        return False
    answer = await tables.callbacks["authorize"](channel)
    if not isinstance(answer, bool):
        raise TypeError(
            f"authorize must return True or False, not {shown(answer, 100)}"
        )
    return answer


async def ask_again(server: ChannelServer) -> None:
    """Check again whether the client may be in the joined channel; if not, cut the channel off at once.

    This does not wait for the channel: ``authorize`` may run at the same time as another
    callback. A join that still runs checks again by itself.
    """
    channel = server.channel
    if channel is None:
        return
    try:
        allowed = await is_authorized(channel)
    except CRASHES as error:
        if must_end(error):
            raise
        if server.channel is channel:
            fail(server, error)
    else:
        if not allowed and server.channel is channel:
            _report_unauthorized(channel)
            server.cut_off(Reason.SHUTDOWN)


async def reauthorize(channel: Channel) -> bool:
    """Check again because the channel's own code asks for it; stop the channel if its client may not stay."""
    server = channel.__phx__.server
    server.connection.rights.have_changed()
    allowed = await is_authorized(channel)
    if not allowed:
        _report_unauthorized(channel)
        # at once, as the running callback may take long
        server.connection.node.pubsub.unsubscribe(server.topic, server)
        await channel.stop(Reason.SHUTDOWN)
    return allowed


def fail(server: ChannelServer, error: BaseException) -> None:
    """Cut off the joined channel, if any: nobody can say whether its client may stay."""
    if server.channel is not None:
        report_crash(server.channel, error, None)
        server.cut_off(Reason.CRASH, error)


def _report_unauthorized(channel: Channel) -> None:
    refusals.count(Refusal.UNAUTHORIZED)
    topic = channel.__phx__.server.topic
    logger.warning("%s: closed, its client may not be there", topic)
