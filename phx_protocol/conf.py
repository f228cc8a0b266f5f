"""The settings: one dict ``PHX_PROTOCOL``, flat keys, seconds and bytes.

The attribute of the same name in lower case on a Socket class wins over the setting.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgiref.sync import SyncToAsync
from django.conf import settings as django_settings
from django.core.signals import setting_changed


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """Every setting with its default; ``options()`` fills in what the project says."""

    #: ordered: topic pattern -> channel class as a dotted path, or (path, assigns)
    channels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: mount -> Socket class as a dotted path
    sockets: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"/socket": "phx_protocol.Socket"}
    )
    #: alias in CHANNEL_LAYERS that carries broadcasts between processes
    channel_layer: str = "default"
    #: whether ``<mount>/websocket`` is served: True, False, or {"PATH": "another last segment"}
    websocket: bool | Mapping[str, str] = True
    #: whether ``<mount>/longpoll`` is served: True, or a dict that changes some of LONGPOLL
    longpoll: Any = False
    #: seconds without a frame from the client after which its socket is closed with 1002
    timeout: float = 60
    #: bytes of one frame from a client; a larger one closes its socket with 1009
    max_frame_size: int = 1024 * 1024
    #: bytes of one broadcast (its topic, event and payload); a larger one is refused where it is sent
    max_broadcast_size: int = 4 * 1024 * 1024
    #: channels that one socket may have joined
    max_channels: int = 100
    #: sockets that one process serves, whatever carries them; None for as many as come
    max_connections: int | None = None
    #: seconds after which a socket is closed with 1012, so that it connects anew (up to a tenth
    #: earlier, so that not all do at once); None for never
    max_connection_age: float | None = None
    #: how often clients may join and push: "200/s", or {"phx_join": "10/s", "*": "200/s"};
    #: of each socket, over all its channels
    throttle: Any = None
    #: characters of a topic, of an event, and of a ref
    max_topic_length: int = 1024
    max_event_length: int = 1024
    max_ref_length: int = 1024
    #: connect parameters, and how deep their brackets may nest
    max_params: int = 1000
    max_params_depth: int = 32
    #: what may wait for one socket: over `bytes` for `seconds`, or over `hard_bytes` at once (by
    #: default MAX_FRAME_SIZE and 4 MiB), and it is closed with 1013
    outbound: Mapping[str, float] = dataclasses.field(default_factory=dict)
    #: frames of one socket that may wait for its channels, and bytes of those that wait or are
    #: handled, beyond which no further one is taken; past it 1013
    inbound: int = 1000
    inbound_bytes: int = 1024 * 1024
    #: True, False, "conn", a list of origins, or a callable (or its dotted path)
    check_origin: bool | str | Sequence[str] | Callable[..., Any] = True
    #: whether a user's sockets are closed when the password changes: those that were let in by a
    #: session or a token of the old one
    close_on_password_change: bool = True
    #: subprotocols of which a client that offers some must offer one; None: whatever it offers
    subprotocols: Sequence[str] | None = None
    #: seconds that running callbacks get when their socket is gone
    shutdown_timeout: float = 5
    #: how the sockets of a process that goes down are closed: a dict that changes some of
    #: DRAINER, or False: as its server does it
    drainer: Any = True
    #: threads for callbacks that are a plain ``def``
    sync_threads: int = 8
    #: names of parameters whose values never show in our logs, or {"keep": names of all that do}
    filter_parameters: Sequence[str] | Mapping[str, Sequence[str]] = (
        "password",
        "token",
    )
    #: ordered: version requirement -> serializer class as a dotted path; empty for V1 and V2
    serializers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: where what processes share is kept: "auto" (Redis when the channel layer is one of
    #: channels_redis, else memory), "memory", "redis", or a dict that changes some of STATE
    state: Any = "auto"
    #: level (a name such as "INFO") at which every request of a transport is logged, or None
    transport_log: str | None = None


#: what no Socket class has a say in
OF_THE_PROJECT = frozenset(
    {
        "sockets",
        "state",
        "drainer",
        "close_on_password_change",
        "max_broadcast_size",
    }
)
WEBSOCKET = {"PATH": "websocket"}
#: the last segment of the URL; seconds that a poll waits (a session ends when it is not polled for
#: 1.5 of them); seconds for which its token counts; seconds in which the process of a session
#: must answer another one; messages in one POST; bytes of one POST; seconds that a client has to
#: send the body of one; seconds that it has to take an answer
LONGPOLL: dict[str, Any] = {
    "PATH": "longpoll",
    "WINDOW": 10.0,
    "TOKEN_MAX_AGE": 1_209_600,
    "SESSION_TIMEOUT": 2.0,
    "MAX_LINES": 1000,
    "MAX_BODY_SIZE": 2 * 1024 * 1024,
    "READ_TIMEOUT": 15.0,
    "SEND_TIMEOUT": 30.0,
}
#: "auto", "memory" or "redis"; Redis servers as channels_redis takes them (None: those of the
#: channel layer), of which the first is used; what every key begins with (None: the layer's own
#: prefix and ":phx:"); seconds after which what a dead process owned is gone everywhere; seconds
#: that Redis has for an answer
STATE: dict[str, Any] = {
    "BACKEND": "auto",
    "HOSTS": None,
    "PREFIX": None,
    "LEASE": 30.0,
    "TIMEOUT": 2.0,
}
#: sockets that are closed at once; seconds between two rounds (down to half of it, by chance);
#: seconds that all rounds may take: if need be, more sockets are closed in each
DRAINER: dict[str, Any] = {"BATCH_SIZE": 1000, "BATCH_INTERVAL": 1.0, "SHUTDOWN": 15.0}
#: what `hard_bytes` are beyond MAX_FRAME_SIZE, unless they are set
BEYOND_A_FRAME = 4 * 1024 * 1024
OUTBOUND = {"bytes": 1024 * 1024, "seconds": 5.0, "hard_bytes": 5 * 1024 * 1024}


def project_settings() -> dict[str, Any]:
    """The dict PHX_PROTOCOL as the project wrote it (empty when it did not)."""
    value = getattr(django_settings, "PHX_PROTOCOL", {})
    return value if isinstance(value, dict) else {}


def options(socket_class: type | None = None) -> Options:
    """The settings as they hold for `socket_class`; read anew when a test overrides them."""
    return _options(socket_class)


@functools.cache
def _options(socket_class: Any) -> Options:
    project = project_settings()
    values = {}
    for field in dataclasses.fields(Options):
        name = None if field.name in OF_THE_PROJECT else field.name
        value = _own(socket_class, name) if socket_class and name else None
        if value is None:
            value = project.get(field.name.upper())
        if value is not None:
            values[field.name] = value
    largest = values.get("max_frame_size", Options.max_frame_size)
    hard_bytes = largest + BEYOND_A_FRAME
    values["outbound"] = {
        **OUTBOUND,
        "hard_bytes": hard_bytes,
        **values.get("outbound", {}),
    }
    state = values.get("state", {})
    state = {"BACKEND": state} if isinstance(state, str) else state
    values["state"] = {**STATE, **state}
    switches = {"websocket": WEBSOCKET, "longpoll": LONGPOLL, "drainer": DRAINER}
    for name, default in switches.items():
        if chosen := values.get(name, getattr(Options, name)):
            values[name] = {**default, **({} if chosen is True else chosen)}
    return Options(**values)


def _own(socket_class: type, name: str) -> Any:
    """The attribute of a Socket class, which may be an object that would bind itself to an instance:
    a function behind ``database_sync_to_async``, for CHECK_ORIGIN."""
    found = inspect.getattr_static(socket_class, name, None)
    binds_to_none = isinstance(found, SyncToAsync)
    return found if binds_to_none else getattr(socket_class, name, None)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "PHX_PROTOCOL":
        _options.cache_clear()


setting_changed.connect(_forget, dispatch_uid="phx_protocol.conf")
