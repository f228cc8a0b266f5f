"""A WebSocket that does not open, and what that means."""

from __future__ import annotations

from tests.management.doctor.site import faults
from tests.support import servers


def test_a_site_that_is_not_there_is_said_so() -> None:
    found = faults(f"ws://127.0.0.1:{servers.free_port()}/socket")
    assert [f["check"] for f in found] == ["websocket", "long-poll"]
    assert "There is no answer" in found[0]["change"]
