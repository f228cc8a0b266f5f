"""@event: the methods that handle the events of a client, and the types that they declare."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from asgiref.sync import AsyncToSync

from ..auth.permissions import Requirement
from ..concurrency.callbacks import (
    AsyncCallable,
    Enter,
    as_method,
    definition,
    find,
    parameters,
)
from ..logs import get_logger
from ..logs.printable import shown
from ..wire.json import plain
from ..wire.reasons import Refusal
from .payloads import PayloadType, Replies
from .refusals import refusals
from .throttle import Rate, parse_rate

if TYPE_CHECKING:
    from .channel import Channel

logger = get_logger("phx_protocol.channel")

#: The result of ``handle_in`` and ``join``: None for no reply, a status, or a status with a payload.
Answer = None | str | tuple[str, Any]

Function = TypeVar(
    "Function",
    bound=Callable[[Any, Any], Answer] | Callable[[Any, Any], Awaitable[Answer]],
)

ACCEPTED = 'None, a status ("ok", "error", ...) or a pair of a status and a payload'


class Sent(NamedTuple):
    """An answer that was checked already, and whose payload was converted to JSON values."""

    status: str
    payload: Any


class Handler:
    """A callback with a payload: ``join``, or an entry of a channel's table of events.

    Raises TypeError for an attribute that is not a method.
    """

    def __init__(
        self,
        owner: type,
        attribute: str,
        requirement: Requirement | None = None,
        rate: Rate | None = None,
        enter: Enter | None = None,
    ) -> None:
        self.owner = owner
        self.attribute = attribute
        self.found = find(owner, attribute)
        self.requirement = requirement
        self.rate = rate
        self._call = as_method(owner, attribute, 1, self._sent, enter)

    @property
    def function(self) -> Any:
        """The function or object with the annotations and the docstring."""
        function = definition(self.found)
        if isinstance(function, AsyncToSync):
            function = definition(function.awaitable)
        return inspect.unwrap(function)

    # Annotations are read when first needed: one may name a class that is defined further down.

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        function = self.function
        if inspect.isroutine(function):
            return typing.get_type_hints(function, include_extras=True)
        try:
            return typing.get_type_hints(type(function).__call__)
        except (
            NameError
        ):  # the annotations of another package may be only for a type checker
            return {}

    @functools.cached_property
    def payload_type(self) -> PayloadType | None:
        """The annotation of the payload. Raises NameError for a name that cannot be found."""
        names = parameters(self.owner, self.attribute, 1)[:1]
        return PayloadType.of(self._hints.get(names[0], Any)) if names else None

    @functools.cached_property
    def replies(self) -> Replies | None:
        """The replies that the return annotation declares. Raises NameError for a name that cannot be found."""
        return Replies.of(self._hints.get("return", Any))

    def decode(self, payload: Any) -> Any:
        """Return `payload` as the type that the callback declares. Raises InvalidPayload."""
        return (
            payload if self.payload_type is None else self.payload_type.decode(payload)
        )

    @functools.cached_property
    def call(self) -> AsyncCallable:
        """The callback, with a check of permissions before it and a check of its reply after it."""
        if self.requirement is not None:
            return self._call_if_allowed
        return self._call if self.replies is None else self._call_and_check

    async def _call_if_allowed(self, channel: Channel, payload: Any) -> Answer:
        rights = channel.__phx__.server.connection.rights
        asked_at = rights.generation
        if not await self._is_allowed(channel):
            return self._unauthorized(channel)
        answer = await self._call_and_check(channel, payload)
        # the right may have been taken away while the callback ran: then its reply must not go out
        if asked_at != rights.generation and not await self._is_allowed(channel):
            return self._unauthorized(channel)
        return answer

    async def _is_allowed(self, channel: Channel) -> bool:
        assert self.requirement is not None
        await channel.__phx__.server.connection.rights.are_current()
        return await self.requirement.is_met_by(channel.socket.user)

    def _unauthorized(self, channel: Channel) -> Answer:
        refusals.count(Refusal.UNAUTHORIZED)
        logger.warning("%s: unauthorized", channel.topic)
        return "error", {"reason": Refusal.UNAUTHORIZED}

    async def _call_and_check(self, channel: Channel, payload: Any) -> Answer:
        """Call the callback and check its answer. Raises EncodeError if that does not fit its type."""
        answer: Answer = await self._call(channel, payload)
        return answer if isinstance(answer, Sent) else self._as_declared(answer)

    def _as_declared(self, answer: Answer) -> Answer:
        """Return the answer as it is sent. Raises EncodeError if it does not fit its type."""
        parsed = parse_answer(answer)
        if parsed is None or self.replies is None:
            return answer
        where = f"the reply of {self.owner.__qualname__}.{self.attribute}"
        return parsed[0], self.replies.sent(*parsed, where)

    def _sent(self, answer: Answer) -> Answer:
        """Check the answer of a plain ``def``, and convert its payload to JSON values.

        This happens in the thread of the ``def``: a queryset cannot be evaluated on the event loop.
        """
        parsed = parse_answer(self._as_declared(answer))
        if parsed is None:
            return None
        status, payload = parsed
        return Sent(status, payload if isinstance(payload, bytes) else plain(payload))


def event(
    name: str,
    *,
    permission_required: str | Iterable[str] | None = None,
    throttle: str | None = None,
) -> Callable[[Function], Function]:
    """Mark a method as the handler of the client's event `name`.

    The method gets the payload, and returns the same as ``Channel.handle_in``. You can annotate
    the payload with a type (``msgspec.Struct``, dataclass, TypedDict, pydantic model): then it is
    decoded and checked first, and a payload that does not fit gets the reply ``("error",
    {"reason": "invalid payload", "errors": [{"path": ..., "message": ...}]})``. The return
    annotation declares the type of the reply, as in ``tuple[Literal["ok"], Saved]``; a reply that
    does not fit ends the channel as a crash.

    A user without a permission of `permission_required` gets ``{"reason": "unauthorized"}``.
    `throttle` ("5/s") limits the rate of each client, as ``Channel.throttle`` does.

    Mixins and several bases work as in Python. An override without ``@event`` still handles the
    event, with the same permissions and rate; ``new_msg = None`` switches the event off. The
    methods are looked up when the class is made, and again at its first join, so that replacements
    by a class decorator count. Later assignments to the class have no effect.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"@event takes the event's name, as in @event('new_msg'), not {name!r}"
        )
    requirement = Requirement.of(False, permission_required)
    rate = None if throttle is None else parse_rate(throttle)

    def mark(function: Function) -> Function:
        marks = (*getattr(function, "_phx_events", ()), (name, requirement, rate))
        try:
            function._phx_events = marks  # type: ignore[union-attr]
        except AttributeError:
            raise TypeError(f"@event marks a method, not {function!r:.100}") from None
        return function

    return mark


class _Event:
    """An event while ``events_of`` collects its definitions, from the last base to the class itself."""

    def __init__(self) -> None:
        self.attributes: list[str] = []  # those that the most derived class marks
        self.requirement: Requirement | None = None
        self.rate: Rate | None = None


def events_of(
    owner: type, entering: Callable[[str], Enter | None] = lambda event: None
) -> dict[str, Handler]:
    """Return the table of events: event -> the handler, whose method Python finds by its name.

    `entering` returns what makes the context manager around the handler of an event.

    So an override without ``@event`` handles the event too, wherever in the MRO it is; an override
    that is None switches the event off. A permission stays until another one replaces it.
    Raises TypeError for an override that is not a method.
    """
    events: dict[str, _Event] = {}
    for each in reversed(owner.__mro__):
        marked: dict[str, list[str]] = {}
        for attribute, value in vars(each).items():
            for name, requirement, rate in _marks(value):
                known = events.setdefault(name, _Event())
                known.requirement = requirement or known.requirement
                known.rate = rate or known.rate
                marked.setdefault(name, []).append(attribute)
            if value is None:
                for known in events.values():
                    if attribute in known.attributes:
                        known.attributes = []
        for name, attributes in marked.items():
            events[name].attributes = attributes
    return {
        name: Handler(
            owner,
            _nearest(owner, e.attributes),
            e.requirement,
            e.rate,
            entering(name),
        )
        for name, e in events.items()
        if e.attributes
    }


def _marks(value: Any) -> Any:
    """Return the marks of ``@event`` on `value` itself: an object may claim to have any attribute."""
    if isinstance(value, (staticmethod, classmethod)):
        return vars(value).get("_phx_events") or _marks(value.__func__)
    return getattr(value, "__dict__", {}).get("_phx_events", ())


def _nearest(owner: type, attributes: list[str]) -> str:
    """Return the attribute that handles an event, if several are marked for it.

    It is the one that the most derived class defines, or else the last one in the class. If two
    attributes are the same method, it is the one with the name of the method.
    """

    def place(attribute: str) -> tuple[int, bool, int]:
        depth = next(i for i, c in enumerate(owner.__mro__) if attribute in vars(c))
        name = getattr(find(owner, attribute), "__name__", None)
        values = [find(owner, other) for other in attributes]
        is_alias = values.count(find(owner, attribute)) > 1 and name != attribute
        return -depth, not is_alias, attributes.index(attribute)

    return max(attributes, key=place) if len(attributes) > 1 else attributes[0]


def parse_answer(answer: Answer) -> tuple[str, Any] | None:
    """Return a callback's answer as (status, payload), or None. Raises TypeError with the accepted forms."""
    if answer is None:
        return None
    if isinstance(answer, str):
        return str(answer), {}
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
        return answer
    raise TypeError(f"a callback returns {ACCEPTED}, not {shown(answer, 100)}")
