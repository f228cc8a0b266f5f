"""TooSlow: the error if a proxy between the doctor and the site holds answers back."""

from __future__ import annotations

from . import advice
from .findings import CheckFailed

#: seconds that an answer may take for which the site does not wait
ANSWER_WITHIN = 2.0


class TooSlow(CheckFailed):
    """An answer took too long, although the site could give it at once."""

    def __init__(self, what: str, took: float) -> None:
        message = f"{what} takes {took:.1f} s: a proxy delays it"
        super().__init__(message, advice.BUFFERING)


def must_be_soon(what: str, took: float) -> None:
    """Raise TooSlow if `what` `took` more than ANSWER_WITHIN seconds."""
    if took > ANSWER_WITHIN:
        raise TooSlow(what, took)
