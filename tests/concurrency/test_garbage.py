"""The garbage collector of a process that serves sockets."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol.concurrency import garbage
from phx_protocol.concurrency.garbage import no_collection
from phx_protocol.transports.lifespan import lifespan
from tests.support import servers


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not served a socket yet, and its collector as it is, in the end."""
    monkeypatch.setattr(garbage, "_is_settled", False)
    threshold = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def start(**settings: Any) -> None:
    """Start as an ASGI server does, up to the answer."""
    events = iter([{"type": "lifespan.startup"}])

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        assert message == {"type": "lifespan.startup.complete"}
        raise ConnectionError("the server is gone")

    with override_settings(PHX_PROTOCOL=settings), pytest.raises(ConnectionError):
        await lifespan(None, {"type": "lifespan"}, receive, send)


async def test_the_start_of_a_server_freezes_what_the_process_has(
    as_before: None,
) -> None:
    threshold = gc.get_threshold()
    await start()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    assert gc.get_threshold() == threshold
    await start()
    assert gc.get_freeze_count() == frozen


async def test_a_project_may_leave_all_objects_to_the_collector(
    as_before: None,
) -> None:
    await start(GC_FREEZE=False)
    assert gc.get_freeze_count() == 0


async def test_the_threshold_of_new_objects_is_a_setting(as_before: None) -> None:
    later = gc.get_threshold()[1:]
    await start(GC_THRESHOLD=5000)
    assert gc.get_threshold() == (5000, *later)


def frozen_after(code: str) -> int:
    """Count the objects that a new process has frozen when it has made an application after `code`."""
    done = servers.python(
        f"import gc\nbefore = gc.get_freeze_count()\n{code}\n"  # 3.12 begins with some
        "from phx_protocol.asgi import get_phoenix_application\n"
        "get_phoenix_application()\nprint(gc.get_freeze_count() - before)",
        {"DJANGO_SETTINGS_MODULE": "tests.conformance.settings"},
    )
    return int(done.stdout)


def test_the_daphne_command_has_no_lifespan_and_freezes_what_is_imported() -> None:
    assert frozen_after("import daphne.cli") > 10_000


def test_to_make_an_application_freezes_nothing_elsewhere() -> None:
    assert frozen_after("import daphne.server") == 0


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_rests_in_a_block_and_in_one_within_it(was_on: bool) -> None:
    runs: list[str] = []

    def note(phase: str, info: Any) -> None:
        runs.append(phase)

    gc.callbacks.append(note)
    try:
        if not was_on:
            gc.disable()
        with no_collection():
            with no_collection():
                made = [[n] for n in range(50_000)]
            made += [[n] for n in range(50_000)]
            assert not runs
        assert gc.isenabled() is was_on
        with pytest.raises(ZeroDivisionError), no_collection():
            1 / 0  # noqa: B018
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
        gc.callbacks.remove(note)
    assert len(made) == 100_000
