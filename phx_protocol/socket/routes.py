"""Routes: which channel class answers a topic, on one Socket class or on all known ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.utils.module_loading import import_string

from ..conf import Options, options
from ..history import History
from ..logs import get_logger
from ..pubsub.serving import mounted
from ..wire.topics import TopicPatterns
from .channel import Channel
from .socket import Socket

if TYPE_CHECKING:
    from .server import ChannelServer

logger = get_logger("phx_protocol.socket")


class Route(NamedTuple):
    """The target of a topic pattern."""

    channel_class: type[Channel]
    assigns: Mapping[str, Any]

    def make(self, server: ChannelServer, subtopic: str) -> Channel:
        """Make the channel of one join, with a copy of the socket's assigns."""
        assigns = {**server.connection.socket.assigns, **self.assigns}
        return self.channel_class(server, subtopic, assigns)


def routes_of(socket_class: type[Socket]) -> TopicPatterns[Route]:
    """Return the topic patterns of a Socket class with their routes.

    Raises InvalidTopicPattern, ImportError, TypeError.
    """
    return _routes(options(socket_class))


@functools.cache
def _routes(options: Options) -> TopicPatterns[Route]:
    return TopicPatterns(
        (pattern, load_channel(target)) for pattern, target in options.channels.items()
    )


def known_sockets() -> list[type[Socket]]:
    """Return the Socket classes in SOCKETS, and those that this process serves, in order.

    A worker knows only those in SOCKETS. Raises ImportError, TypeError.
    """
    return _known_sockets(options(), tuple(mounted))


def _known_sockets(
    options: Options, served: tuple[type[Socket], ...]
) -> list[type[Socket]]:
    named = [load_socket(target) for target in options.sockets.values()]
    return list(dict.fromkeys([*named, *served]))


def history_of(topic: str) -> History | None:
    """Return the history of `topic`: that of the first known channel class that has one."""
    histories = (channel.history for channel in channels_of(topic))
    return next((history for history in histories if history is not None), None)


def channels_of(topic: str) -> tuple[type[Channel], ...]:
    """Return the channel classes that answer `topic`, at most one of each known Socket class."""
    # match each time: clients make up topics, so a cache by topic could grow without limit
    matches = (
        routes.match(topic) for routes in _known_routes(options(), tuple(mounted))
    )
    return tuple(match[0].channel_class for match in matches if match is not None)


def pattern_of(topic: str) -> str | None:
    """Return the topic pattern that `topic` matches on the first known Socket class that has one."""
    patterns = (
        routes.pattern_of(topic) for routes in _known_routes(options(), tuple(mounted))
    )
    return next((pattern for pattern in patterns if pattern is not None), None)


@functools.lru_cache(maxsize=8)
def _known_routes(
    options: Options, served: tuple[type[Socket], ...]
) -> tuple[TopicPatterns[Route], ...]:
    try:
        known = _known_sockets(options, served)
        routes = [routes_of(socket_class) for socket_class in known]
    except (ImportError, TypeError):
        logger.exception(
            "SOCKETS cannot be loaded: no channel class of any topic is known"
        )
        return ()
    return tuple(dict.fromkeys(routes))


def load_socket(target: Any) -> type[Socket]:
    """Return the Socket class `target`, or the one at that dotted path. Raises TypeError, ImportError."""
    socket_class = _load(target)
    if not (isinstance(socket_class, type) and issubclass(socket_class, Socket)):
        raise TypeError(f"{target!r} is not a subclass of phx_protocol.Socket")
    return socket_class


def load_channel(target: Any) -> Route:
    """Return the route for a value of CHANNELS: a class, its dotted path, or a pair of either and
    assigns. Raises TypeError, ImportError."""
    target, assigns = target if isinstance(target, (tuple, list)) else (target, {})
    channel_class = _load(target)
    if not (isinstance(channel_class, type) and issubclass(channel_class, Channel)):
        raise TypeError(f"{target!r} is not a subclass of phx_protocol.Channel")
    return Route(channel_class, assigns)


def _load(target: Any) -> Any:
    return import_string(target) if isinstance(target, str) else target
