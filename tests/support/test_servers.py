"""Processes of tests end by a signal, even if the shell runs the tests in the background."""

from __future__ import annotations

import ast
import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers

#: names of what starts a process and lets it run
STARTERS = {"Popen", "create_subprocess_exec", "create_subprocess_shell"}
TESTS = servers.ROOT / "tests"
SLEEP = ("sleep", "60")


@pytest.fixture
def _in_the_background() -> Iterator[None]:
    """As ``make test &`` in a script runs this process."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in servers.TO_END}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_in_the_background")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_process_in_the_background_ends_by_a_signal(
    number: signal.Signals,
) -> None:
    with servers.start(SLEEP) as process:
        process.send_signal(number)
        try:
            assert process.wait(5) == -number
        finally:
            process.kill()


@pytest.mark.usefixtures("_in_the_background")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_a_process_that_a_coroutine_starts_ends_by_a_signal_too(
    number: signal.Signals,
) -> None:
    process = await servers.start_async(*SLEEP)
    process.send_signal(number)
    try:
        async with asyncio.timeout(5):
            assert await process.wait() == -number
    finally:
        if process.returncode is None:
            process.kill()


def starts(path: Path) -> set[str]:
    """Return the calls of `path` that start a process."""
    calls = (
        n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
    )
    names = {getattr(f, "attr", getattr(f, "id", "")) for f in calls}
    return names & STARTERS


def test_nothing_is_started_in_another_way() -> None:
    modules = [p for p in TESTS.rglob("*.py") if "node_modules" not in p.parts]
    found = {p.relative_to(TESTS).as_posix() for p in modules if starts(p)}
    assert found == {"support/servers.py"}
