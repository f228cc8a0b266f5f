"""Findings: what a check says, and what an operator can do about it."""

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
    """What a check returns; `change` is what mends it, in lines."""

    status: Status
    message: str
    change: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A verdict and whose it is; in this order of fields it is a row of ``--json``."""

    check: str
    status: Status
    message: str
    change: str = ""

    @classmethod
    def of(cls, check: str, verdict: Verdict) -> Finding:
        return cls(check, *verdict)

    @property
    def blocks(self) -> bool:
        """Whether what builds on this check cannot be looked at."""
        return self.status in (Status.FAULT, Status.SKIPPED)


def ok(message: str) -> Verdict:
    return Verdict(Status.OK, message)


def warning(message: str, change: str) -> Verdict:
    return Verdict(Status.WARNING, message, change)


def fault(message: str, change: str = "") -> Verdict:
    return Verdict(Status.FAULT, message, change)


def skipped(message: str, change: str = "") -> Verdict:
    return Verdict(Status.SKIPPED, message, change)


class Trouble(Exception):
    """What keeps a check from going on, and what to change."""

    def __init__(self, message: str, change: str = "") -> None:
        super().__init__(message)
        self.change = change
