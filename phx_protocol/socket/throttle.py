"""Rates: how often one client may do something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..wire.messages import JOIN

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Rate(NamedTuple):
    """At most `times` in any `seconds`; all of them may come at once."""

    times: int
    seconds: float


def parse_rate(rate: str) -> Rate:
    """Parse ``"20/s"``, ``"5/min"``, ``"100/hour"``, ``"1000/d"``, as in Django REST framework.

    Raises ValueError; its text names the accepted forms.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*([smhd])[a-z]*\s*", str(rate))
    if match is None or match[1].strip("0") == "":
        raise ValueError(
            f'a rate reads "20/s", or with m, h or d (min, hour, day), not {rate!r}'
        )
    return Rate(int(match[1]), _SECONDS[match[2]])


Rates = Mapping[str, Rate]


def parse_rates(throttle: str | Mapping[str, str] | None) -> Rates:
    """Parse a value of ``throttle``: a rate for all events, or event -> rate, where ``"*"`` is all events.

    Raises ValueError.
    """
    if throttle is None:
        return {}
    if isinstance(throttle, str):
        throttle = {"*": throttle}
    return {event: parse_rate(rate) for event, rate in throttle.items()}


class Throttle:
    """One rate of one client. It keeps one number: the time when the client has its full rate again."""

    __slots__ = ("rate", "_until")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._until = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until one more is allowed; 0 for now."""
        step = self.rate.seconds / self.rate.times
        return max(0.0, self._until + step - self.rate.seconds - now)

    def take(self, now: float) -> None:
        self._until = max(self._until, now) + self.rate.seconds / self.rate.times


class Throttles:
    """The rates of one client, by event.

    ``"*"`` counts every event, but not joins. An event with its own rate must keep to both.
    """

    __slots__ = ("_throttles",)

    def __init__(self, rates: Rates) -> None:
        self._throttles = {name: Throttle(rate) for name, rate in rates.items()}

    def of(self, event: Any) -> list[Throttle]:
        """Return the throttles of an event; an event that is not a string has those of ``"*"``."""
        if not isinstance(event, str):
            event = "*"
        names = (event,) if event == JOIN else ("*", event)
        return [
            self._throttles[n] for n in dict.fromkeys(names) if n in self._throttles
        ]


def retry_after(throttles: list[Throttle], now: float) -> float:
    """Return the seconds until all `throttles` allow one more. If it is 0, one was counted."""
    wait = max((throttle.wait(now) for throttle in throttles), default=0.0)
    if wait < 1e-6:  # smaller than the error of a coarse clock and of rounding
        wait = 0.0
        for throttle in throttles:
            throttle.take(now)
    return wait
