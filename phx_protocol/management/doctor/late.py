"""Late: the error if a proxy between the doctor and the site holds answers back."""

from __future__ import annotations

from . import advice
from .findings import Trouble

#: seconds that an answer may take for which the site does not wait
LATE = 2.0


class Late(Trouble):
    """An answer took too long, although the site could give it at once."""

    def __init__(self, what: str, took: float) -> None:
        message = f"{what} takes {took:.1f} s: something between holds it back"
        super().__init__(message, advice.BUFFERING)


def must_be_soon(what: str, took: float) -> None:
    """Raise Late if `what` `took` more than LATE seconds."""
    if took > LATE:
        raise Late(what, took)
