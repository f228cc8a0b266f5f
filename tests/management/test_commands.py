from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from phx_protocol.management.commands.phx_doctor import Command as Doctor
from phx_protocol.management.commands.phx_listen import Command as Listen
from phx_protocol.management.doctor import Finding, Status
from phx_protocol.management.operators import ListCommand
from phx_protocol.wire.json import encode_payload
from phx_protocol.wire.messages import Broadcast

#: what moves the cursor of a terminal, or ends a line of it
EVIL = "a\x1b[2J\x9b2J\x00\r\n\x85\u202e\u2028b"


def test_phx_routes_lists_the_patterns_in_order() -> None:
    out = io.StringIO()
    channels = {
        "room:*": "tests.checks.test_channels.Plain",
        "exact": ("tests.checks.test_channels.Deaf", {"a": 1}),
    }
    with override_settings(PHX_PROTOCOL={"CHANNELS": channels, "LONGPOLL": True}):
        call_command("phx_routes", stdout=out, no_color=True)
    assert out.getvalue().splitlines() == [
        "/socket (/socket/websocket, /socket/longpoll)  phx_protocol.socket.socket.Socket",
        "  room:*  tests.checks.test_channels.Plain",
        "  exact   tests.checks.test_channels.Deaf  {'a': 1}",
    ]


@pytest.mark.parametrize(
    "payload, message",
    [("{", "not JSON"), ("[1]", "must be a JSON object"), ("{}", "in memory")],
)
def test_phx_broadcast_says_what_is_wrong(payload: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("phx_broadcast", "room:1", "new_msg", payload)


@dataclasses.dataclass
class Row:
    topic: str


class ListsTopics(ListCommand):
    columns = ("TOPIC",)
    empty = "none"

    def rows(self, **options: Any) -> Iterable[tuple[Any, Sequence[Any]]]:
        yield Row(EVIL), (EVIL,)


def printed(lines: str) -> list[str]:
    """The lines that were printed, none of which a terminal obeys."""
    assert all(line.isprintable() for line in lines.split("\n"))
    return lines.rstrip("\n").split("\n")


@pytest.mark.parametrize("as_json", [True, False])
def test_text_of_clients_is_listed_printable(as_json: bool) -> None:
    out = io.StringIO()
    command = ListsTopics(stdout=out, no_color=True)
    command._show(json=as_json)
    lines = printed(out.getvalue())
    if as_json:
        assert json.loads(*lines) == [{"topic": EVIL}]
    else:
        assert lines[0] == "TOPIC" and len(lines) == 2


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("payload", [{EVIL: EVIL}, {"text": "x" * 10_000}])
def test_a_broadcast_is_printed_on_one_line_and_as_a_whole(
    as_json: bool, payload: Any
) -> None:
    command = Listen(no_color=True)
    broadcast = Broadcast(EVIL, EVIL, encode_payload(payload))
    (line,) = printed(command._line(broadcast, as_json))
    if as_json:
        assert json.loads(line)["payload"] == payload
    assert len(line) > len(json.dumps(payload)) - 50


def test_the_doctor_prints_the_answer_of_a_site_on_one_line() -> None:
    out = io.StringIO()
    found = Finding("websocket", Status.FAULT, f"answered 500 {EVIL}", f"one\n{EVIL}")
    Doctor(stdout=out, no_color=True)._print([found], 1)
    first, *change = printed(out.getvalue())
    assert first.startswith("fault    websocket  answered 500 a\\x1b[2J")
    assert change[0].strip() == "one"
