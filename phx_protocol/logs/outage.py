"""Outage: logs the begin and the end of an outage once, instead of every failed call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .printable import in_words


class Outage:
    """An outage of the channel layer or the state: its begin, its end, and the number of failures.

    It logs `fails` and calls `failed` when it begins, logs `works` and calls `recovered` when it ends.
    """

    def __init__(
        self,
        logger: logging.Logger,
        fails: str,
        works: str,
        failed: Callable[..., None],
        recovered: Callable[..., None],
    ) -> None:
        self.is_on = False
        self._since = 0.0
        self._failed = failed
        self._recovered = recovered
        self.failures = 0
        self._logger = logger
        self._fails = fails
        self._works = works

    def report(self, error: BaseException | None) -> None:
        """Note the result of the last call: `error` is the error that it raised, or None."""
        self.failures += error is not None
        if (error is not None) == self.is_on:
            return
        self.is_on = error is not None
        if error is not None:
            self._since = time.monotonic()
            self._logger.error(f"{self._fails}: %s", in_words(error))
            self._failed(None, error=error)
        else:
            self._logger.warning(self._works)
            duration = time.monotonic() - self._since
            self._recovered(None, failures=self.failures, duration=duration)
