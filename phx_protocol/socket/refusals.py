"""The count of what this process refused."""

from __future__ import annotations

from collections import Counter

from .. import signals


class Refusals(Counter[str | int]):
    """A count that tells the signal `refused` of everything it counts."""

    def __setitem__(self, reason: str | int, times: int) -> None:
        super().__setitem__(reason, times)
        signals.refused.emit(None, reason=reason)


#: how often this process refused something: ``Refusal``, ``CloseCode``, or the HTTP status of a
#: connection that was refused -> times
refusals = Refusals()
