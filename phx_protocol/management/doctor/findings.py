"""The findings of the checks, and the advice that belongs to them."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


class Verdict(NamedTuple):
    """The result of a check; `change` says in one or more lines how to repair a fault."""

    status: Status
    message: str
    change: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A verdict with the name of its check; its fields, in this order, are a row of ``--json``."""

    check: str
    status: Status
    message: str
    change: str = ""

    @classmethod
    def of(cls, check: str, verdict: Verdict) -> Finding:
        return cls(check, *verdict)

    @property
    def blocks(self) -> bool:
        """True if the checks of the next stages cannot run after this one."""
        return self.status in (Status.FAULT, Status.SKIPPED)


def ok(message: str) -> Verdict:
    return Verdict(Status.OK, message)


def warning(message: str, change: str) -> Verdict:
    return Verdict(Status.WARNING, message, change)


def fault(message: str, change: str = "") -> Verdict:
    return Verdict(Status.FAULT, message, change)


def skipped(message: str, change: str = "") -> Verdict:
    return Verdict(Status.SKIPPED, message, change)


class CheckFailed(Exception):
    """A check cannot go on; `change` says what to change."""

    def __init__(self, message: str, change: str = "") -> None:
        super().__init__(message)
        self.change = change
