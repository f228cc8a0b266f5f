"""The count of what this process refused."""

from __future__ import annotations

from collections import Counter

from .. import signals


class Refusals(Counter[str | int]):
    """The count of refusals by reason."""

    def count(self, reason: str | int) -> None:
        """Count a refusal, and send the signal ``refused``."""
        self[reason] += 1
        signals.refused.emit(None, reason=reason)


#: reason -> how often this process refused something. A reason is a ``Refusal``, a ``CloseCode``, or
#: the HTTP status of a refused connection
refusals = Refusals()
