"""Phoenix Channels for Django: phoenix.js on one side, Django Channels on the other.

Importing this package needs no configured Django; its names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__  # noqa: F401

if TYPE_CHECKING:
    from .api import (
        abroadcast,
        abroadcast_from,
        aclose_topic,
        adisconnect,
        adisconnect_socket,
        adisconnect_user,
        adrain,
        areauthorize,
        broadcast,
        broadcast_from,
        broadcast_on_commit,
        close_topic,
        disconnect,
        disconnect_socket,
        disconnect_user,
        drain,
        local_broadcast,
        reauthorize,
        reply,
    )
    from .exceptions import (
        AlreadyTracked,
        BroadcastError,
        ConnectionRefused,
        EncodeError,
        JoinDenied,
        NotTracked,
        PhxError,
        StateError,
    )
    from .history import History
    from .presence import Presence
    from .presence.blocking import SyncPresence
    from .pubsub.replies import ReplyRef
    from .socket.channel import Channel
    from .socket.connect_info import ConnectInfo
    from .socket.events import Answer, event
    from .socket.membership import Info
    from .socket.refusals import refusals
    from .socket.socket import Socket
    from .transports.longpoll import LongPollConsumer
    from .transports.websocket import PhoenixConsumer
    from .wire.reasons import Reason

_HOMES = {
    "api": (
        "abroadcast",
        "abroadcast_from",
        "aclose_topic",
        "adisconnect",
        "adisconnect_socket",
        "adisconnect_user",
        "adrain",
        "areauthorize",
        "broadcast",
        "broadcast_from",
        "broadcast_on_commit",
        "close_topic",
        "disconnect",
        "disconnect_socket",
        "disconnect_user",
        "drain",
        "local_broadcast",
        "reauthorize",
        "reply",
    ),
    "exceptions": (
        "AlreadyTracked",
        "BroadcastError",
        "ConnectionRefused",
        "EncodeError",
        "JoinDenied",
        "NotTracked",
        "PhxError",
        "StateError",
    ),
    "history": ("History",),
    "presence": ("Presence",),
    "presence.blocking": ("SyncPresence",),
    "pubsub.replies": ("ReplyRef",),
    "socket.channel": ("Channel",),
    "socket.connect_info": ("ConnectInfo",),
    "socket.events": (
        "Answer",
        "event",
    ),
    "socket.refusals": ("refusals",),
    "socket.membership": ("Info",),
    "socket.socket": ("Socket",),
    "transports.longpoll": ("LongPollConsumer",),
    "transports.websocket": ("PhoenixConsumer",),
    "wire.reasons": ("Reason",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyTracked",
    "Answer",
    "BroadcastError",
    "Channel",
    "ConnectInfo",
    "ConnectionRefused",
    "EncodeError",
    "History",
    "Info",
    "JoinDenied",
    "LongPollConsumer",
    "NotTracked",
    "PhoenixConsumer",
    "PhxError",
    "Presence",
    "Reason",
    "ReplyRef",
    "Socket",
    "StateError",
    "SyncPresence",
    "abroadcast",
    "abroadcast_from",
    "aclose_topic",
    "adisconnect",
    "adisconnect_socket",
    "adisconnect_user",
    "adrain",
    "areauthorize",
    "broadcast",
    "broadcast_from",
    "broadcast_on_commit",
    "close_topic",
    "disconnect",
    "disconnect_socket",
    "disconnect_user",
    "drain",
    "event",
    "local_broadcast",
    "reauthorize",
    "refusals",
    "reply",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
