"""A log that somebody can read while a client floods the server."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import phx_protocol
from phx_protocol import logs
from phx_protocol.logs import LINES, Repeats


class Written(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def written(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[logging.Logger, Written]]:
    monkeypatch.setattr(logs, "PERIOD", 0.05)
    logger, handler, repeats = logging.getLogger("phx_tests"), Written(), Repeats()
    logger.setLevel(logging.INFO)
    logger.addFilter(repeats)
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)
    logger.removeFilter(repeats)


async def test_lines_that_repeat_are_counted_and_the_count_is_written(
    written: tuple[logging.Logger, Written],
) -> None:
    logger, handler = written
    for n in range(LINES + 7):
        logger.warning("%d is too many", n)
    logger.warning("something else")
    assert handler.lines == [
        *(f"{n} is too many" for n in range(LINES)),
        "something else",
    ]
    while len(handler.lines) == LINES + 1:
        await asyncio.sleep(0.01)
    assert handler.lines[-1] == "7 more lines like: %d is too many"


async def test_what_informs_is_never_held_back(
    written: tuple[logging.Logger, Written],
) -> None:
    logger, handler = written
    for n in range(5 * LINES):
        logger.info("JOINED %d", n)
    assert len(handler.lines) == 5 * LINES


def crash(logger: logging.Logger, error: type[Exception], cause: str) -> None:
    try:
        raise error
    except error:
        logger.exception("%s crashed", cause, extra={"cause": cause})


async def test_a_traceback_of_one_cause_is_written_once(
    written: tuple[logging.Logger, Written],
) -> None:
    logger, handler = written
    for _ in range(3):
        crash(logger, ValueError, "Room")
    crash(logger, KeyError, "Room")
    crash(logger, ValueError, "Lobby")
    tracebacks = [line for line in handler.lines if "Traceback" in line]
    assert len(tracebacks) == 3
    assert handler.lines[1] == "Room crashed (ValueError, as before)"


async def test_after_a_while_it_is_written_again(
    written: tuple[logging.Logger, Written],
) -> None:
    logger, handler = written
    crash(logger, ValueError, "Room")
    await asyncio.sleep(2 * logs.PERIOD)
    crash(logger, ValueError, "Room")
    assert sum("Traceback" in line for line in handler.lines) == 2


def test_every_logger_of_the_package_holds_back_what_repeats() -> None:
    package = Path(phx_protocol.__file__).parent
    for path in package.rglob("*.py"):
        if path.name != "logs.py" and "contrib" not in path.parts:
            assert not re.search(r"= logging\.getLogger\(", path.read_text()), path
