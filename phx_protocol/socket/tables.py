"""ChannelTables: what the library looks up in a Channel class.

They are not attributes of the class itself: all names there belong to users.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..auth.permissions import Requirement
from ..concurrency.callbacks import Enter, as_method, find
from ..history import History
from ..history.policy import queued_events
from ..logs.printable import shown
from .events import Handler, events_of
from .payloads import PayloadType
from .throttle import parse_rates

if TYPE_CHECKING:
    from .channel import Channel

#: callback -> number of its arguments beside the channel
CALLBACKS = {
    "authorize": 0,
    "join": 1,
    "rewind_from": 1,
    "after_join": 0,
    "handle_in": 2,
    "handle_out": 2,
    "handle_info": 1,
    "terminate": 1,
}


class ChannelTables:
    """The callbacks, events and rates of a Channel class. Raises TypeError if one of them is wrong."""

    # A name from the wire can reach a method only through these tables.

    __slots__ = (
        "name",
        "events",
        "callbacks",
        "join",
        "requirement",
        "rates",
        "pushes",
        "intercepts",
        "queued_events",
        "is_finished",
    )

    def __init__(
        self,
        owner: type[Channel],
        is_finished: bool = False,
        has_context: bool = False,
    ) -> None:
        own = overridden(owner) if has_context else []

        def entering(name: str) -> Enter | None:
            return functools.partial(_enter, name) if has_context else None

        def entering_own(name: str) -> Enter | None:
            return entering(name) if name in own else None

        self.name = owner.__name__
        self.events = events_of(owner, entering)
        self.callbacks = {
            name: as_method(owner, name, count, enter=entering_own(name))
            for name, count in CALLBACKS.items()
        }
        self.join = Handler(owner, "join", enter=entering_own("join"))
        self.requirement = Requirement.of(
            owner.login_required, owner.permission_required
        )
        of_events = {n: h.rate for n, h in self.events.items() if h.rate is not None}
        self.rates = {**parse_rates(owner.throttle), **of_events}
        self.pushes = {
            name: declared
            for name, annotation in owner.pushes.items()
            if (declared := PayloadType.of(annotation)) is not None
        }
        _check_attributes(owner)
        self.intercepts = frozenset(owner.intercepts)
        self.queued_events = queued_events(self.intercepts, owner.history)
        # False if they were made before the decorators of the class have run
        self.is_finished = is_finished

    def sent(self, event: str, payload: Any) -> Any:
        """Return `payload` as it is sent. Raises EncodeError if it does not fit its type in `pushes`."""
        declared = self.pushes.get(event)
        if declared is None:
            return payload
        return declared.sent(payload, f"{self.name}.pushes[{event!r}]")


def overridden(owner: type[Channel]) -> list[str]:
    """Return the names of the callbacks that `owner` defines, itself or by a base class."""
    from .channel import Channel

    return [name for name in CALLBACKS if find(owner, name) is not vars(Channel)[name]]


def _enter(name: str, channel: Channel, *args: Any) -> AbstractContextManager[Any]:
    return channel.socket.callback_context(channel, name)


_in_context: WeakKeyDictionary[type[Channel], ChannelTables] = WeakKeyDictionary()


def tables_in_context(owner: type[Channel]) -> ChannelTables:
    """Return the tables of `owner` whose callbacks run in the ``callback_context`` of their socket."""
    tables = _in_context.get(owner)
    if tables is None:
        tables = _in_context[owner] = ChannelTables(owner, True, has_context=True)
    return tables


def _check_attributes(owner: type[Channel]) -> None:
    """Raise TypeError for an attribute of the wrong kind."""
    if isinstance(owner.intercepts, str):
        raise TypeError(
            f"{owner.__name__}.intercepts is a set of event names, not a string"
        )
    if owner.history is not None and not isinstance(owner.history, History):
        raise TypeError(
            f"{owner.__name__}.history is a History or None, not {shown(owner.history, 100)}"
        )
    if owner.presence is not None and not hasattr(owner.presence, "enter"):
        raise TypeError(
            f"{owner.__name__}.presence is a Presence class or None, not {shown(owner.presence, 100)}"
        )
