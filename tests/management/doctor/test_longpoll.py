"""The checks of long-poll, one at a time."""

from __future__ import annotations

import pytest

from phx_protocol.management.doctor import longpoll
from phx_protocol.management.doctor.findings import Status
from tests.management.doctor.site import alone, answering, mount, site

__all__ = ["alone", "mount"]


async def test_a_site_without_long_poll_is_no_fault(mount: str) -> None:
    verdict = await longpoll.opening(site(f"{mount}/guarded"))
    assert verdict.status is Status.SKIPPED
    assert 'PHX_PROTOCOL["LONGPOLL"] = True' in verdict.change


async def test_an_answer_that_is_none_of_long_poll_is_shown() -> None:
    with answering(0, 200, b"<html>Welcome!</html>") as url:
        with pytest.raises(longpoll.NoSession, match="answered 200 Welcome!"):
            await longpoll.opening(site(url))
