"""The contract: every socket, topic pattern, event, payload, reply and push, as classes declare them."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..conf import options
from ..socket.channel import Channel
from ..socket.events import Handler
from ..socket.payloads import ANY_STATUS, PayloadType, Replies
from ..socket.routes import Route, load_socket, routes_of
from ..socket.socket import Socket

#: the events that every channel with presences pushes
PRESENCE_EVENTS = ("presence_state", "presence_diff")


class Event(NamedTuple):
    """An event that a client sends, and its replies. None as a type allows any payload."""

    name: str
    doc: str
    payload: PayloadType | None
    #: status -> the type of the payload; "*" is any other status
    replies: Mapping[str, PayloadType | None]


class Push(NamedTuple):
    """An event that the server pushes to clients."""

    name: str
    doc: str
    payload: PayloadType | None


class Topic(NamedTuple):
    pattern: str
    name: str  # of the channel class; no other class has the same
    doc: str
    join: Event
    events: tuple[Event, ...]
    pushes: tuple[Push, ...]
    #: True if the channel may push events that are not declared
    is_open: bool

    @property
    def is_exact(self) -> bool:
        return not self.pattern.endswith("*")


class Mount(NamedTuple):
    path: str
    name: str  # of the Socket class
    doc: str
    topics: tuple[Topic, ...]
    #: transport -> its path
    transports: Mapping[str, str]


Contract = tuple[Mount, ...]


def contract(sockets: Mapping[str, Any] | None = None) -> Contract:
    """Return the contract of the mounts of `sockets`, default the setting SOCKETS.

    Raises ImportError, TypeError or NameError if a class cannot be loaded.
    """
    targets = options().sockets if sockets is None else sockets
    mounts = {path: load_socket(target) for path, target in targets.items()}
    channels = [
        route.channel_class
        for socket in mounts.values()
        for _, route in routes_of(socket)
    ]
    names = _names([*mounts.values(), *channels])
    return tuple(_mount(path, socket, names) for path, socket in mounts.items())


def _names(classes: Iterable[type]) -> dict[type, str]:
    """Return a name for each class: its own, with its module's if two classes have the same."""
    names = {known: known.__name__ for known in classes}
    often = Counter(names.values())
    taken = set(names.values())
    for known, name in names.items():
        if often[name] > 1:
            names[known] = unique(f"{known.__module__}.{name}".replace(".", "_"), taken)
    return names


def unique(name: str, taken: set[str]) -> str:
    """Return `name`, with a number if it is in `taken`, and add it to `taken`."""
    chosen, number = name, 2
    while chosen in taken:
        chosen, number = f"{name}_{number}", number + 1
    taken.add(chosen)
    return chosen


def _mount(path: str, socket: type[Socket], names: Mapping[type, str]) -> Mount:
    topics = tuple(
        _topic(pattern, route, names) for pattern, route in routes_of(socket)
    )
    return Mount(
        path, names[socket], _doc(socket, Socket), topics, options(socket).paths(path)
    )


def _topic(pattern: str, route: Route, names: Mapping[type, str]) -> Topic:
    channel = route.channel_class
    events = tuple(
        _event(name, handler) for name, handler in channel.__phx_tables__.events.items()
    )
    pushes = [
        Push(name, _doc(annotation), PayloadType.of(annotation))
        for name, annotation in channel.pushes.items()
    ]
    if channel.presence is not None:
        pushes += [Push(name, "", None) for name in PRESENCE_EVENTS]
    return Topic(
        pattern,
        names[channel],
        _doc(channel, Channel),
        _event("phx_join", channel.__phx_tables__.join),
        events,
        tuple(pushes),
        not channel.pushes,
    )


def _event(name: str, handler: Handler) -> Event:
    replies: Replies | None = handler.replies
    declared = {ANY_STATUS: None} if replies is None else replies.declared
    doc = inspect.cleandoc(handler.function.__doc__ or "")
    if handler.function is Channel.join:
        doc = ""
    return Event(name, doc, handler.payload_type, declared)


def _doc(thing: Any, *bases: type) -> str:
    """Return the class's own docstring; "" for an inherited or a generated one."""
    doc = getattr(thing, "__dict__", {}).get("__doc__")
    name = getattr(thing, "__name__", "")
    if not isinstance(doc, str) or doc.startswith(f"{name}("):  # a dataclass's
        return ""
    return inspect.cleandoc(doc)
