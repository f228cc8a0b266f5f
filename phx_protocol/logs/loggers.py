"""Loggers that stay readable: repeated records are counted instead of written."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from .printable import shown, text_of, traceback_of

#: seconds after which a suppressed record may be written again
PERIOD = 10.0
#: how many records of one kind, and tracebacks of one cause, are written in that time
LINES = 20
TRACEBACKS = 1
#: most kinds to remember; usually they are few, unless a caller formats its messages itself
KINDS = 10_000


class Repeats(logging.Filter):
    """A filter that suppresses repeated warnings and errors, and later logs how many they were.

    Records are of one kind if their message before formatting is the same. Tracebacks have one
    cause if the class of the exception and ``extra={"cause": ...}`` are the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[Any, tuple[float, int]] = (
            {}
        )  # kind -> begin of period, count
        self._held: dict[tuple[str, int, str], int] = {}
        # the loop that will log how many records were suppressed
        self._loop: asyncio.AbstractEventLoop | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = str(record.msg)
        if record.exc_info and record.exc_info[0] is not None:
            cause = (kind, record.exc_info[0], getattr(record, "cause", None))
            if not self._may(cause, TRACEBACKS):
                record.msg = f"{record.msg} ({record.exc_info[0].__name__}, as before)"
                record.exc_info = None
        if self._may(kind, LINES):
            return True
        self._hold((record.name, record.levelno, kind))
        return False

    def _may(self, kind: Any, limit: int) -> bool:
        now = time.monotonic()
        since, count = self._written.get(kind, (now, 0))
        if now - since >= PERIOD:
            since, count = now, 0
        if len(self._written) > KINDS:
            self._written.clear()
        self._written[kind] = since, count + 1
        return count < limit

    def _hold(self, kind: tuple[str, int, str]) -> None:
        self._held[kind] = self._held.get(kind, 0) + 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # logged after the next record that is suppressed on a loop
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(PERIOD, self._tell)

    def _tell(self) -> None:
        held, self._held, self._loop = self._held, {}, None
        for (name, level, text), count in held.items():
            kind = text.partition("\n")[0]
            logging.getLogger(name).log(level, "%d more lines like: %s", count, kind)


class Printable(logging.Filter):
    """A filter that makes the arguments of a record and the text of its traceback printable.

    The message itself is ours and may have several lines. It lets every record pass and never
    raises.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: _argument(a) for name, a in record.args.items()}
        elif record.args:
            record.args = tuple(map(_argument, record.args))
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            # formatters use this text instead of formatting the exception
            record.exc_text = traceback_of(record.exc_info[1])
        return True


class Argument(str):
    """An argument of a record, with the texts for `%s` and `%r`."""

    _repr: str

    def __new__(cls, text: str, of_value: str) -> Argument:
        argument = super().__new__(cls, text)
        argument._repr = of_value
        return argument

    def __repr__(self) -> str:
        return self._repr


def _argument(value: Any) -> Any:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return value  # for %d and %.0f
    return Argument(text_of(value), shown(value))


_repeats = Repeats()
_printable = Printable()


class Lasting:
    """A logger that a configuration can turn off only by its name, or that of a parent.

    asgi.py imports this package before Django configures logging. LOGGING then disables every
    logger that already exists, unless it names that logger or has
    ``"disable_existing_loggers": False``; this happens again at each ``django.setup``. Code that
    sets ``disabled`` is obeyed.
    """

    @property
    def disabled(self) -> bool:
        return bool(self.__dict__.get("disabled"))

    @disabled.setter
    def disabled(self, value: bool) -> None:
        # only ``logging.config`` sets True for loggers that LOGGING does not name: ignore that
        setter = sys._getframe(1).f_globals.get("__name__")
        if not value or setter != "logging.config":
            self.__dict__["disabled"] = value


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name`, which suppresses repeated records and makes clients' text printable.

    LOGGING must name it to turn it off.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_repeats)
    logger.addFilter(_printable)
    own = type(logger)
    if not issubclass(own, Lasting):
        logger.__class__ = type(own.__name__, (Lasting, own), {})
    return logger
