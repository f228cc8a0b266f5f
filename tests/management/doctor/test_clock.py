"""The clock of the site."""

from __future__ import annotations

import re
import time

import pytest

from phx_protocol.management.doctor import clock
from phx_protocol.management.doctor.findings import Status
from tests.management.doctor.site import answering, site


@pytest.mark.parametrize(
    "off, said", [(0, "within 5 s"), (60, "60 s ahead"), (-60, "60 s behind")]
)
async def test_a_clock_that_is_off_is_said_so(off: float, said: str) -> None:
    with answering(time.time() + off) as url:
        verdict = await clock.skew(site(url))
    assert said in re.sub("(59|61) s", "60 s", verdict.message)
    assert (verdict.status is Status.OK) == (off == 0)
