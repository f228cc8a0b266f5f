"""A log that somebody can read while a client floods the server."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import phx_protocol
from phx_protocol.logs import loggers as logs
from phx_protocol.logs.loggers import LINES, RepeatFilter
from tests.support import servers


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
    # on a busy machine a test needs some of it
    monkeypatch.setattr(logs, "PERIOD", 1.0)
    logger, handler, repeats = logging.getLogger("phx_tests"), Written(), RepeatFilter()
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


async def test_info_records_are_never_suppressed(
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
    written: tuple[logging.Logger, Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, handler = written
    monkeypatch.setattr(logs, "PERIOD", 0.05)
    crash(logger, ValueError, "Room")
    await asyncio.sleep(2 * logs.PERIOD)
    crash(logger, ValueError, "Room")
    assert sum("Traceback" in line for line in handler.lines) == 2


def test_every_logger_of_the_package_suppresses_repeated_records() -> None:
    package = Path(phx_protocol.__file__).parent
    for path in package.rglob("*.py"):
        if path.name != "loggers.py" and "contrib" not in path.parts:
            assert not re.search(r"= logging\.getLogger\(", path.read_text()), path


# ---------------------------------------------------------------------- LOGGING

TO_STDOUT: dict[str, Any] = {
    "version": 1,
    "handlers": {
        "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
    },
    "root": {"handlers": ["out"]},
}
#: an asgi.py, in whatever order a project has it
ASGI = {
    "as documented": """
        from phx_protocol.asgi import get_phoenix_application
        application = get_phoenix_application()
    """,
    "Django first": """
        from django.core.asgi import get_asgi_application
        django = get_asgi_application()
        from phx_protocol.asgi import get_phoenix_application
        application = get_phoenix_application(http=django)
    """,
    "Django last": """
        from phx_protocol.asgi import get_phoenix_application
        application = get_phoenix_application()
        from django.core.asgi import get_asgi_application
        django = get_asgi_application()
    """,
}
#: what crashes and refusals are written to
LOGGERS = ["phx_protocol.channel", "phx_protocol.socket", "phx_protocol.transport"]


def logged(asgi: str, **settings: Any) -> list[str]:
    """The names of our loggers that write a line, once asgi.py was imported."""
    speak = f"""
        import logging
        for name in {LOGGERS}:
            logging.getLogger(name).error("SAID %s", name)
    """
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.integration.site_settings",
        "PHX_SETTINGS": json.dumps(settings),
    }
    code = textwrap.dedent(asgi) + textwrap.dedent(speak)
    done = servers.python(code, environment, check=True)
    return re.findall("SAID (.*)", done.stdout)


@pytest.mark.parametrize(
    "asgi, existing",
    [
        ("as documented", {}),
        ("Django first", {}),
        ("Django last", {"disable_existing_loggers": True}),
    ],
)
def test_a_logging_that_turns_off_other_loggers_leaves_ours_on(
    asgi: str, existing: dict[str, bool]
) -> None:
    assert logged(ASGI[asgi], LOGGING={**TO_STDOUT, **existing}) == LOGGERS


def test_a_logging_turns_ours_off_by_name() -> None:
    off = {"level": "CRITICAL"}
    silent = {"handlers": [], "propagate": False}
    by_name = {"phx_protocol.channel": off, "phx_protocol.socket": silent}
    said = logged(ASGI["as documented"], LOGGING={**TO_STDOUT, "loggers": by_name})
    assert said == ["phx_protocol.transport"]


def test_what_code_turns_off_stays_off() -> None:
    off = """
        logging.getLogger("phx_protocol.channel").disabled = True
        logging.config.dictConfig({"version": 1, "root": {"handlers": ["out"]}, "handlers": {
            "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}})
    """
    asgi = f"import logging.config\n{textwrap.dedent(ASGI['Django last'])}"
    said = logged(asgi + textwrap.dedent(off), LOGGING=TO_STDOUT)
    assert said == [name for name in LOGGERS if name != "phx_protocol.channel"]
