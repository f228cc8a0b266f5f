"""The settings: one dict ``PHX_PROTOCOL``, flat keys, seconds and bytes.

An attribute of a Socket class that has the name of a setting in lower case wins over that setting.
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
    """Every setting with its default. ``options()`` fills in the values of the project."""

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
    #: seconds without a frame from the client; after them its socket is closed with 1002
    timeout: float = 60
    #: largest frame from a client, in bytes; a larger one closes its socket with 1009
    max_frame_size: int = 1024 * 1024
    #: largest broadcast in bytes (topic, event and payload together); sending a larger one raises
    #: EncodeError
    max_broadcast_size: int = 4 * 1024 * 1024
    #: how many channels one socket may join
    max_channels: int = 100
    #: how many sockets one process serves, over all transports; None for no limit
    max_connections: int | None = None
    #: how many connections one user, and one address, may have to all processes together; None for
    #: no limit
    max_connections_per_user: int | None = None
    max_connections_per_address: int | None = None
    #: True: beyond the limit of a user the newest connection is refused; False: the oldest is closed
    refuse_newest: bool = False
    #: how often one address may connect to all processes together ("10/s"); None for no limit
    connect_rate: str | None = None
    #: the addresses and networks of the proxies whose X-Forwarded-For is believed; "unix" for one
    #: that connects over a Unix socket
    trusted_proxies: Sequence[str] = ()
    #: seconds after which a socket is closed with 1012, so that its client connects again (up to a
    #: tenth earlier, so that clients do not reconnect all at once); None for never
    max_connection_age: float | None = None
    #: how often each socket may join and push, over all its channels: "200/s", or
    #: {"phx_join": "10/s", "*": "200/s"}
    throttle: Any = None
    #: most characters of a topic, of an event, and of a ref
    max_topic_length: int = 1024
    max_event_length: int = 1024
    max_ref_length: int = 1024
    #: how many connect parameters a client may send, and how deep their brackets may nest
    max_params: int = 1000
    max_params_depth: int = 32
    #: how much may wait to be sent to one socket: it is closed with 1013 when more than `bytes` wait
    #: for `seconds`, or more than `hard_bytes` (by default MAX_FRAME_SIZE plus 4 MiB) at any moment
    outbound: Mapping[str, float] = dataclasses.field(default_factory=dict)
    #: how many frames of one socket may wait for its channels, and how many bytes the waiting and
    #: the handled ones may have together; beyond that no more frames are read, or the socket is
    #: closed with 1013
    inbound: int = 1000
    inbound_bytes: int = 1024 * 1024
    #: how the Origin header is checked: True, False, "conn", a list of origins, or a callable (or
    #: its dotted path)
    check_origin: bool | str | Sequence[str] | Callable[..., Any] = True
    #: whether the sockets of a user are closed when the password changes: those whose session or
    #: token is from before the change
    close_on_password_change: bool = True
    #: a client that offers subprotocols must offer one of these; None accepts any
    subprotocols: Sequence[str] | None = None
    #: seconds that running callbacks may still take after their socket is gone
    shutdown_timeout: float = 5
    #: how the sockets of a process that goes down are closed: a dict that changes some of
    #: DRAINER, or False to leave it to the server
    drainer: Any = True
    #: how many threads run callbacks that are a plain ``def``
    sync_threads: int = 8
    #: whether it is known who is online, for ``phx_protocol.users`` and its signals
    track_users: bool = False
    #: topics (``"room:*"``) of which it is told that clients have joined them, and that none is left
    track_topics: Sequence[str] = ()
    #: seconds after which a user without connections is offline, and a topic without clients vacated
    offline_after: float = 5
    #: whether the garbage collector passes over what a process has when it starts to serve
    gc_freeze: bool = True
    #: how many objects may be new before the garbage collector looks at them; None leaves Python's
    gc_threshold: int | None = None
    #: names of parameters whose values are masked in our logs, or {"keep": names of the only ones
    #: that are shown}
    filter_parameters: Sequence[str] | Mapping[str, Sequence[str]] = (
        "password",
        "token",
    )
    #: ordered: version requirement -> serializer class as a dotted path; empty for V1 and V2
    serializers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: where the state that processes share is kept: "auto" (Redis when the channel layer is ours or
    #: one of channels_redis, else memory), "memory", "redis", or a dict that changes some of STATE
    state: Any = "auto"
    #: whether processes of one machine whose channel layer is in memory reach each other; None for
    #: only when DEBUG is on
    local_bus: bool | None = None
    #: whether and how rows of the outbox are sent: a dict that changes some of OUTBOX
    outbox: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: level (a name such as "INFO") at which every request of a transport is logged, or None
    transport_log: str | None = None

    def paths(self, mount: str) -> dict[str, str]:
        """Return the path of each transport that is served at `mount`: ``{"websocket": "/socket/websocket"}``."""
        transports: Any = {"websocket": self.websocket, "longpoll": self.longpoll}
        return {
            name: "/" + f"{mount.strip('/')}/{chosen['PATH'].strip('/')}".lstrip("/")
            for name, chosen in transports.items()
            if chosen
        }


#: the settings that a Socket class cannot override
PROJECT_ONLY = frozenset(
    {
        "sockets",
        "state",
        "drainer",
        "close_on_password_change",
        "max_broadcast_size",
        "gc_freeze",
        "gc_threshold",
        "local_bus",
        "track_users",
        "track_topics",
        "offline_after",
        "outbox",
    }
)
WEBSOCKET = {"PATH": "websocket"}
#: PATH: the last segment of the URL. WINDOW: seconds that a poll waits (a session ends when no poll
#: comes for 1.5 times that). TOKEN_MAX_AGE: seconds for which its token is valid. SESSION_TIMEOUT:
#: seconds in which the process of a session must answer another process. MAX_LINES: most messages
#: in one POST. MAX_BODY_SIZE: most bytes of one POST. READ_TIMEOUT: seconds in which a client must
#: send the body of a POST. SEND_TIMEOUT: seconds in which it must read an answer.
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
#: BACKEND: "auto", "memory" or "redis". HOSTS: Redis servers as channels_redis takes them (None:
#: those of the channel layer); topics are spread over them. NEXT_HOSTS and PREVIOUS_HOSTS: other lists,
#: with which the servers are changed while processes run. PREFIX: the beginning of every key (None: the
#: layer's own prefix and ":phx:"). LEASE: seconds after which everything that a dead process owned
#: is removed. TIMEOUT: seconds in which Redis must answer.
STATE: dict[str, Any] = {
    "BACKEND": "auto",
    "HOSTS": None,
    "NEXT_HOSTS": None,
    "PREVIOUS_HOSTS": None,
    "PREFIX": None,
    "LEASE": 30.0,
    "TIMEOUT": 2.0,
}
#: DATABASES: those that have an outbox. RELAY: whether processes that serve clients send them; None for all but
#: those of tests. POLL: seconds between two looks for rows that nobody has told of. LEASE: seconds after which
#: another process goes on for one that has died.
OUTBOX: dict[str, Any] = {
    "DATABASES": ("default",),
    "RELAY": None,
    "POLL": 1.0,
    "LEASE": 10.0,
}
#: BATCH_SIZE: how many sockets one round closes. BATCH_INTERVAL: seconds between two rounds (a
#: random time between half of it and all of it). SHUTDOWN: seconds that all rounds may take; if
#: necessary, each round closes more sockets.
DRAINER: dict[str, Any] = {"BATCH_SIZE": 1000, "BATCH_INTERVAL": 1.0, "SHUTDOWN": 15.0}
#: bytes by which `hard_bytes` exceeds MAX_FRAME_SIZE, unless the project sets it
BEYOND_A_FRAME = 4 * 1024 * 1024
OUTBOUND = {"bytes": 1024 * 1024, "seconds": 5.0, "hard_bytes": 5 * 1024 * 1024}


def project_settings() -> dict[str, Any]:
    """Return the dict PHX_PROTOCOL as the project wrote it; empty if there is none."""
    value = getattr(django_settings, "PHX_PROTOCOL", {})
    return value if isinstance(value, dict) else {}


def options(socket_class: type | None = None) -> Options:
    """Return the settings that apply to `socket_class`. A test that overrides settings gets new ones."""
    return _options(socket_class)


@functools.cache
def _options(socket_class: Any) -> Options:
    project = project_settings()
    values = {}
    for field in dataclasses.fields(Options):
        name = None if field.name in PROJECT_ONLY else field.name
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
    values["outbox"] = {**OUTBOX, **values.get("outbox", {})}
    state = values.get("state", {})
    state = {"BACKEND": state} if isinstance(state, str) else state
    values["state"] = {**STATE, **state}
    switches = {"websocket": WEBSOCKET, "longpoll": LONGPOLL, "drainer": DRAINER}
    for name, default in switches.items():
        if chosen := values.get(name, getattr(Options, name)):
            values[name] = {**default, **({} if chosen is True else chosen)}
    return Options(**values)


def _own(socket_class: type, name: str) -> Any:
    """Return the attribute of a Socket class.

    A function behind ``database_sync_to_async`` (for CHECK_ORIGIN) is returned without binding it.
    """
    found = inspect.getattr_static(socket_class, name, None)
    binds_to_none = isinstance(found, SyncToAsync)
    return found if binds_to_none else getattr(socket_class, name, None)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "PHX_PROTOCOL":
        _options.cache_clear()


setting_changed.connect(_forget, dispatch_uid="phx_protocol.conf")
