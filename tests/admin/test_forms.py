"""The form of a broadcast: what it refuses, and whom it lets do what."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry

from phx_protocol.testing import connect
from tests.admin.conftest import Open, SeatSocket, Staff, joined
from tests.admin.pages import url

DISCONNECT = ("view_connection", "disconnect_connection")
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]


@pytest.mark.parametrize(
    "event, payload, message",
    [
        ("", "{}", "This field is required."),
        ("e" * 1025, "{}", "at most 1024 characters"),
        ("said", "", "This field is required."),
        ("said", '{\r\n  "a": 1,\r\n  "b": x}', "in line 3, column 8"),
        ("said", '{"é": x}', "in line 1, column 7"),
        ("said", '{"a": 1', "not JSON"),
        ("said", '{"a": NaN}', "not JSON"),
        ("said", "[1]", "must be a JSON object"),
        ("said", "null", "must be a JSON object"),
    ],
)
async def test_a_wrong_broadcast_shows_an_error_at_its_field(
    staff: Staff, event: str, payload: str, message: str
) -> None:
    client = await staff("view_topic", "broadcast_topic")
    typed = {"event": event, "payload": payload, "confirmed": "yes"}
    page = await client.post(url("broadcast", "room:a"), typed)
    assert message in " ".join(
        error for errors in page.context["form"].errors.values() for error in errors
    )
    assert page.context["form"]["event"].value() == event
    assert page.context["form"]["payload"].value() == payload
    assert not await LogEntry.objects.aexists()


@pytest.mark.parametrize("topic", ["room:a", "users:ada"])
@pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply", "phx_"])
async def test_no_event_of_the_protocol_is_broadcast(
    open: Open, staff: Staff, topic: str, event: str
) -> None:
    room = await joined(open, topic)
    client = await staff("view_topic", "broadcast_topic", *DISCONNECT)
    typed = {"event": event, "payload": "{}", "confirmed": "yes"}
    page = await client.post(url("broadcast", topic), typed)
    (error,) = page.context["form"].errors["event"]
    assert "the protocol's own" in error
    await room.refute_push(event)
    assert not await LogEntry.objects.aexists()


class NamedSocket(SeatSocket):
    def id(self) -> str | None:
        return "seat of ada"


async def test_staff_without_the_permission_cannot_broadcast_a_disconnect(
    staff: Staff,
) -> None:
    ada = await connect(NamedSocket)
    typed = {"event": "disconnect", "payload": "{}", "confirmed": "yes"}
    for others in ((), DISCONNECT[:1]):
        client = await staff("view_topic", "broadcast_topic", *others)
        page = await client.post(url("broadcast", "seat of ada"), typed)
        assert "may not do" in page.context["form"].errors["event"][0]
    assert not await LogEntry.objects.aexists()
    await ada.join("room:still")
    client = await staff("view_topic", "broadcast_topic", *DISCONNECT)
    await client.post(url("broadcast", "seat of ada"), typed)
    await ada.assert_closed(1001)
    assert await LogEntry.objects.acount() == 1
    await ada.close()


async def test_a_broadcast_that_is_not_as_declared_goes_to_nobody(
    open: Open, staff: Staff
) -> None:
    room = await joined(open, "room:a")
    client = await staff("view_topic", "broadcast_topic")
    typed = {"event": "counted", "payload": '{"free": "many"}', "confirmed": "yes"}
    page = await client.post(url("broadcast", "room:a"), typed)
    (error,) = page.context["form"].non_field_errors()
    assert error.startswith("counted was not broadcast: SeatChannel.pushes['counted']")
    assert "$.free: Expected `int`, got `str`" in error
    await room.refute_push("counted")
    assert "But this failed" in (await LogEntry.objects.aget()).change_message
    typed["payload"] = '{"free": 3}'
    await client.post(url("broadcast", "room:a"), typed)
    await room.assert_push("counted", {"free": 3})
