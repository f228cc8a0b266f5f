"""Outage: something that other processes share fails, which is said once and not once a call."""

from __future__ import annotations

import logging


class Outage:
    """Told how every call went; logs the first failure and the end of it, and counts them all."""

    def __init__(self, logger: logging.Logger, fails: str, works: str) -> None:
        self.is_on = False
        self.failures = 0
        self._logger = logger
        self._fails = fails
        self._works = works

    def report(self, error: BaseException | None) -> None:
        """`error` is what the last call raised, or None."""
        self.failures += error is not None
        if (error is not None) == self.is_on:
            return
        self.is_on = error is not None
        if error is not None:
            self._logger.error(f"{self._fails}: %r", error)
        else:
            self._logger.warning(self._works)
