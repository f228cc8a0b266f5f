"""The log of connects, joins, events and drains, as ``Phoenix.Logger`` writes it.

It is the first receiver of the signals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import signals
from ..logs import get_logger
from ..socket.socket import loggable

if TYPE_CHECKING:
    from ..socket.channel import Channel
    from ..socket.socket import Socket


class LogReceiver:
    """A receiver that logs one line for each signal, at the level that its sender names.

    `text` makes the arguments of ``Logger.log`` from the arguments of the signal.
    """

    def __init__(
        self,
        logger: str,
        level: Callable[[Any], int | None],
        text: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._logger = get_logger(logger)
        self._level = level
        self._text = text

    def is_on(self, sender: Any) -> bool:
        level = self._level(sender)
        return level is not None and self._logger.isEnabledFor(level)

    def __call__(self, sender: Any, **named: Any) -> None:
        if self.is_on(sender) and (text := self._text(sender, **named)):
            self._logger.log(self._level(sender) or 0, *text)


def _connected(
    sender: type[Socket],
    socket: Socket,
    transport: str,
    serializer: str,
    duration: float,
    result: str,
    **kwargs: Any,
) -> tuple[Any, ...]:
    return (
        "%s %s in %.0fms\n  Transport: %s\n  Serializer: %s\n  Parameters: %.500r",
        "CONNECTED TO" if result == "ok" else "REFUSED CONNECTION TO",
        sender.__name__,
        duration * 1e3,
        transport,
        serializer,
        loggable(socket.params, socket),
    )


def _joined(
    sender: type[Channel],
    channel: Channel,
    payload: Any,
    duration: float,
    result: str,
    **kwargs: Any,
) -> tuple[Any, ...]:
    if channel.topic.startswith("phoenix"):
        return ()
    return (
        "%s %s in %.0fus\n  Parameters: %.500r",
        "JOINED" if result == "ok" else "REFUSED JOIN",
        channel.topic,
        duration * 1e6,
        loggable(payload, channel.socket),
    )


def _handled_in(
    sender: type[Channel],
    channel: Channel,
    event: Any,
    payload: Any,
    duration: float,
    **kwargs: Any,
) -> tuple[Any, ...]:
    return (
        "HANDLED %s INCOMING ON %s (%s) in %.0fus\n  Parameters: %.500r",
        event,
        channel.topic,
        sender.__name__,
        duration * 1e6,
        loggable(payload, channel.socket),
    )


def _drain(sender: Any, count: int, total: int, **kwargs: Any) -> tuple[Any, ...]:
    return "DRAINING %d of %d sockets", count, total


signals.socket_connected.log = LogReceiver(
    "phx_protocol.socket", lambda sender: sender.log, _connected
)
signals.channel_joined.log = LogReceiver(
    "phx_protocol.channel", lambda sender: sender.log_join, _joined
)
signals.channel_handled_in.log = LogReceiver(
    "phx_protocol.channel", lambda sender: sender.log_handle_in, _handled_in
)
signals.socket_drain.log = LogReceiver(
    "phx_protocol.socket", lambda sender: logging.INFO, _drain
)
