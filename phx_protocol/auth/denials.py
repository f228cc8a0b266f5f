"""How often tokens were refused, so that a client can be told that its token is of no use."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from .digests import digest

#: how often a token is refused before its client is told to stay away
ENOUGH = 3
#: how many tokens are remembered
REMEMBERED = 10_000


class Denials:
    """The tokens that this process has refused, with the addresses that sent them, the latest last."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def are_enough(self, address: str, token: Any) -> bool:
        """Count a refusal of `token` from `address`; return whether these are ENOUGH."""
        key = digest(f"{address} {token}")
        count = self._counts[key] = self._counts.pop(key, 0) + 1
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
        return count >= ENOUGH


#: those of this process
denials = Denials()
