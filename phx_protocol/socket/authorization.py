"""Authorization: whether a client may be in a channel, at its join and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..concurrency.tasks import CRASHES, must_end
from ..logs import get_logger
from ..logs.printable import shown
from ..wire.reasons import Reason, Refusal
from .endings import say_crashed
from .refusals import refusals

if TYPE_CHECKING:
    from .channel import Channel
    from .server import ChannelServer

logger = get_logger("phx_protocol.channel")


async def is_authorized(channel: Channel) -> bool:
    """Return what its class asks of the user, and then what ``authorize`` says. Raises TypeError."""
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
    """Ask again whether the client may be in the joined channel; cut that off at once if not.

    Whatever the channel is busy with: ``authorize`` may run beside another callback. A join
    that is under way asks again by itself.
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
            _say_unauthorized(channel)
            server.cut_off(Reason.SHUTDOWN)


async def reauthorize(channel: Channel) -> bool:
    """Ask again for a channel whose own code wants it; stop it if its client may not be there."""
    server = channel.__phx__.server
    server.connection.rights.have_changed()
    allowed = await is_authorized(channel)
    if not allowed:
        _say_unauthorized(channel)
        # the callback that runs may take its time
        server.connection.node.pubsub.unsubscribe(server.topic, server)
        await channel.stop(Reason.SHUTDOWN)
    return allowed


def fail(server: ChannelServer, error: BaseException) -> None:
    """Cut off the joined channel, if any: it is unknown whether its client may be there."""
    if server.channel is not None:
        say_crashed(server.channel, error, None)
        server.cut_off(Reason.CRASH, error)


def _say_unauthorized(channel: Channel) -> None:
    refusals.count(Refusal.UNAUTHORIZED)
    topic = channel.__phx__.server.topic
    logger.warning("%s: closed, its client may not be there", topic)
