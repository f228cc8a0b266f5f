"""@event: the methods that handle a client's events, and what they declare."""

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

#: What ``handle_in`` and ``join`` answer: nothing, a status, or a status with a payload.
Answer = None | str | tuple[str, Any]

Function = TypeVar(
    "Function",
    bound=Callable[[Any, Any], Answer] | Callable[[Any, Any], Awaitable[Answer]],
)

ACCEPTED = 'None, a status ("ok", "error", ...) or a pair of a status and a payload'


class Sent(NamedTuple):
    """An answer that has been checked, with a payload that is JSON already."""

    status: str
    payload: Any


class Handler:
    """A callback with a payload: ``join``, or an entry of a channel's table of events.

    Raises TypeError for an attribute that is no method.
    """

    def __init__(
        self,
        owner: type,
        attribute: str,
        requirement: Requirement | None = None,
        rate: Rate | None = None,
    ) -> None:
        self.owner = owner
        self.attribute = attribute
        self.found = find(owner, attribute)
        self.requirement = requirement
        self.rate = rate
        self._call = as_method(owner, attribute, 1, self._sent)

    @property
    def function(self) -> Any:
        """The function or object that has the annotations and the docstring."""
        function = definition(self.found)
        if isinstance(function, AsyncToSync):
            function = definition(function.awaitable)
        return inspect.unwrap(function)

    # Annotations are looked up when first needed: one may name a class defined further down.

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        function = self.function
        if inspect.isroutine(function):
            return typing.get_type_hints(function, include_extras=True)
        try:
            return typing.get_type_hints(type(function).__call__)
        except NameError:  # of a class that others wrote, for their type checker alone
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
        """`payload` as the callback wants it. Raises InvalidPayload."""
        return (
            payload if self.payload_type is None else self.payload_type.decode(payload)
        )

    @functools.cached_property
    def call(self) -> AsyncCallable:
        """The callback, with the permission check before it and the check of its reply after it."""
        if self.requirement is not None:
            return self._call_if_allowed
        return self._call if self.replies is None else self._call_and_check

    async def _call_if_allowed(self, channel: Channel, payload: Any) -> Answer:
        rights = channel.__phx__.server.connection.rights
        asked_at = rights.generation
        if not await self._is_allowed(channel):
            return self._unauthorized(channel)
        answer = await self._call_and_check(channel, payload)
        # nothing is answered under a right that was taken away while the callback ran
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
        """Raises EncodeError when the answer is not as it was declared."""
        answer: Answer = await self._call(channel, payload)
        return answer if isinstance(answer, Sent) else self._as_declared(answer)

    def _as_declared(self, answer: Answer) -> Answer:
        """Return the answer as it goes out. Raises EncodeError when it is not as it was declared."""
        parsed = parse_answer(answer)
        if parsed is None or self.replies is None:
            return answer
        where = f"the reply of {self.owner.__qualname__}.{self.attribute}"
        return parsed[0], self.replies.sent(*parsed, where)

    def _sent(self, answer: Answer) -> Answer:
        """The answer of a plain ``def``, checked and made plain in the thread that it runs in: a
        queryset could not be evaluated on the event loop.
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

    It gets the payload and returns what ``Channel.handle_in`` may return. A payload that is
    annotated with a type (``msgspec.Struct``, dataclass, TypedDict, pydantic model) is decoded
    and checked first; one that does not fit is answered ``("error", {"reason": "invalid
    payload", "errors": [{"path": ..., "message": ...}]})``. A reply's type is declared by the
    return annotation, as in ``tuple[Literal["ok"], Saved]``; one that does not fit is a crash.

    Who lacks a permission of `permission_required` is answered ``{"reason": "unauthorized"}``.
    `throttle` ("5/s") holds each client to a rate, as ``Channel.throttle`` does.

    Mixins and several bases are resolved as Python does it. An override without ``@event``
    keeps the event and what is declared of it; ``new_msg = None`` switches the event off. The
    methods are looked up when the class is made, and once more at its first join: what a class
    decorator has put in their place is what runs. What is assigned to the class later is not seen.
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
    """An event while its definitions are gone through, from the last base to the class itself."""

    def __init__(self) -> None:
        self.attributes: list[str] = []  # marked by the class that has the last say
        self.requirement: Requirement | None = None
        self.rate: Rate | None = None


def events_of(owner: type) -> dict[str, Handler]:
    """The table of events: what Python finds under each marked method's name is what runs.

    An override without ``@event`` keeps what it does not change, wherever in the MRO it stands;
    one that is None switches its event off. A permission stays until another takes its place.
    Raises TypeError for an override that is no method.
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
        name: Handler(owner, _nearest(owner, e.attributes), e.requirement, e.rate)
        for name, e in events.items()
        if e.attributes
    }


def _marks(value: Any) -> Any:
    """Return the marks of ``@event`` on `value` itself: an object may claim to have any attribute."""
    if isinstance(value, (staticmethod, classmethod)):
        return vars(value).get("_phx_events") or _marks(value.__func__)
    return getattr(value, "__dict__", {}).get("_phx_events", ())


def _nearest(owner: type, attributes: list[str]) -> str:
    """Of several attributes for one event the one that was overridden last, else written last.

    Of two names of one method that is the method's own.
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
