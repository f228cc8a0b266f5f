"""Phoenix Channels for Django: phoenix.js on one side, Django Channels on the other.

Importing this package needs no configured Django; its names are loaded when first used.
"""

# isort: skip_file - it would write a line for each name
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

# for type checkers; `_HOMES` is the same for Python, and a test compares them
if TYPE_CHECKING:
    from .api import (
        abroadcast as abroadcast,
        abroadcast_from as abroadcast_from,
        aclose_topic as aclose_topic,
        adisconnect as adisconnect,
        adisconnect_socket as adisconnect_socket,
        adisconnect_user as adisconnect_user,
        adrain as adrain,
        areauthorize as areauthorize,
        broadcast as broadcast,
        broadcast_from as broadcast_from,
        broadcast_on_commit as broadcast_on_commit,
        close_topic as close_topic,
        disconnect as disconnect,
        disconnect_socket as disconnect_socket,
        disconnect_user as disconnect_user,
        drain as drain,
        local_broadcast as local_broadcast,
        reauthorize as reauthorize,
        reply as reply,
    )
    from .exceptions import (
        AlreadyTracked as AlreadyTracked,
        BroadcastError as BroadcastError,
        ConnectionRefused as ConnectionRefused,
        EncodeError as EncodeError,
        JoinDenied as JoinDenied,
        NotTracked as NotTracked,
        PhxError as PhxError,
        StateError as StateError,
    )
    from .history import History as History
    from .presence import Presence as Presence
    from .presence.blocking import SyncPresence as SyncPresence
    from .pubsub.replies import ReplyRef as ReplyRef
    from .socket.channel import Channel as Channel
    from .socket.connect_info import ConnectInfo as ConnectInfo
    from .socket.events import Answer as Answer, event as event
    from .socket.membership import Info as Info
    from .socket.refusals import refusals as refusals
    from .socket.socket import Socket as Socket
    from .transports.longpoll import LongPollConsumer as LongPollConsumer
    from .transports.websocket import PhoenixConsumer as PhoenixConsumer
    from .wire.reasons import Reason as Reason

#: where each name of the front door is made; it is loaded when it is first used
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

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
