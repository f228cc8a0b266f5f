from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings


def test_phx_routes_lists_the_patterns_in_order() -> None:
    out = io.StringIO()
    channels = {
        "room:*": "tests.test_checks.Plain",
        "exact": ("tests.test_checks.Deaf", {"a": 1}),
    }
    with override_settings(PHX_PROTOCOL={"CHANNELS": channels, "LONGPOLL": True}):
        call_command("phx_routes", stdout=out, no_color=True)
    assert out.getvalue().splitlines() == [
        "/socket (websocket, longpoll)  phx_protocol.socket.Socket",
        "  room:*  tests.test_checks.Plain",
        "  exact   tests.test_checks.Deaf  {'a': 1}",
    ]


@pytest.mark.parametrize(
    "payload, message",
    [("{", "not JSON"), ("[1]", "must be a JSON object"), ("{}", "in-memory")],
)
def test_phx_broadcast_says_what_is_wrong(payload: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("phx_broadcast", "room:1", "new_msg", payload)
