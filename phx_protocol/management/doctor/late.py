"""Late: something between the doctor and the site holds back what could be here."""

from __future__ import annotations

from . import advice
from .findings import Trouble

#: seconds that an answer may take which needs none
LATE = 2.0


class Late(Trouble):
    def __init__(self, what: str, took: float) -> None:
        message = f"{what} takes {took:.1f} s: something between holds it back"
        super().__init__(message, advice.BUFFERING)


def must_be_soon(what: str, took: float) -> None:
    """Raise Late if `what` took longer than that."""
    if took > LATE:
        raise Late(what, took)
