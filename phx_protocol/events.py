"""@event: the methods that handle a client's events, and what they declare."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .callbacks import AsyncCallable, as_async
from .limits import Rate, parse_rate, refusals
from .logs import get_logger
from .payloads import PayloadType, Replies
from .permissions import Requirement
from .printable import shown
from .wire.json import plain
from .wire.reasons import Refusal

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


class Handler:
    """A callback with a payload: ``join``, or an entry of a channel's table of events."""

    def __init__(
        self,
        function: Callable[..., Any],
        requirement: Requirement | None = None,
        rate: Rate | None = None,
    ) -> None:
        self.function = function
        self.requirement = requirement
        self.rate = rate
        is_async = inspect.iscoroutinefunction(function)
        self._call = as_async(function if is_async else self._evaluated(function))
        self._is_checked = not is_async

    # Annotations are looked up when first needed: one may name a class defined further down.

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    @functools.cached_property
    def payload_type(self) -> PayloadType | None:
        """What the payload is annotated with. Raises NameError for what cannot be found."""
        names = list(inspect.signature(self.function).parameters)[1:2]  # behind self
        return PayloadType.of(self._hints.get(names[0], Any)) if names else None

    @functools.cached_property
    def replies(self) -> Replies | None:
        """What the return annotation declares. Raises NameError for what cannot be found."""
        return Replies.of(self._hints.get("return", Any))

    def decode(self, payload: Any) -> Any:
        """`payload` as the callback wants it. Raises InvalidPayload."""
        return (
            payload if self.payload_type is None else self.payload_type.decode(payload)
        )

    @functools.cached_property
    def call(self) -> AsyncCallable:
        """The callback, and whatever has to be asked before and checked after it."""
        if self.requirement is not None:
            return self._call_if_allowed
        if self.replies is None or self._is_checked:
            return self._call
        return self._call_and_check

    async def _call_if_allowed(self, channel: Channel, payload: Any) -> Answer:
        assert self.requirement is not None
        if not await self.requirement.is_met_by(channel.socket.user):
            refusals[Refusal.UNAUTHORIZED] += 1
            logger.warning("%s: unauthorized", channel.topic)
            return "error", {"reason": Refusal.UNAUTHORIZED}
        if self.replies is None or self._is_checked:
            answer: Answer = await self._call(channel, payload)
            return answer
        return await self._call_and_check(channel, payload)

    async def _call_and_check(self, channel: Channel, payload: Any) -> Answer:
        """Raises EncodeError when the answer is not as it was declared."""
        return self._as_declared(parse_answer(await self._call(channel, payload)))

    def _as_declared(self, answer: tuple[str, Any] | None) -> Answer:
        """What goes out for an answer. Raises EncodeError when it is not as it was declared."""
        if answer is None or self.replies is None:
            return answer
        where = f"the reply of {self.function.__qualname__}"
        return answer[0], self.replies.sent(*answer, where)

    def _evaluated(self, function: Callable[..., Answer]) -> Callable[..., Answer]:
        """`function`, a plain ``def``, with what it answers checked and made plain in the thread
        that it runs in: a queryset could not be evaluated on the event loop.
        """

        @functools.wraps(function)
        def answer_plainly(channel: Channel, payload: Any) -> Answer:
            answer = self._as_declared(parse_answer(function(channel, payload)))
            if not isinstance(answer, tuple) or isinstance(answer[1], bytes):
                return answer
            return answer[0], plain(answer[1])

        return answer_plainly


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
    """
    if not isinstance(name, str):
        raise TypeError(
            f"@event takes the event's name, as in @event('new_msg'), not {name!r}"
        )
    requirement = Requirement.of(False, permission_required)
    rate = None if throttle is None else parse_rate(throttle)

    def mark(function: Function) -> Function:
        marks = (*getattr(function, "_phx_events", ()), (name, requirement, rate))
        function._phx_events = marks  # type: ignore[union-attr]
        return function

    return mark


def parse_answer(answer: Answer) -> tuple[str, Any] | None:
    """A callback's answer as (status, payload), or None. Raises TypeError naming what is accepted."""
    if answer is None:
        return None
    if isinstance(answer, str):
        return str(answer), {}
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
        return answer
    raise TypeError(f"a callback returns {ACCEPTED}, not {shown(answer, 100)}")
