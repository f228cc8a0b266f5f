"""A suite for pytest whose tests are not async, with the fixtures of the plugin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User

from phx_protocol import ConnectionRefused, Socket
from phx_protocol.testing import SyncTestChannel, SyncTestSocket
from tests.examples.chat import ChatSocket

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[True, False], ids=["wire", "direct"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def room(
    phx_connect_sync: Callable[..., SyncTestSocket], wire: bool
) -> SyncTestChannel:
    user = User.objects.create_user("ann")
    return phx_connect_sync(ChatSocket, user=user, wire=wire).join("room:lobby")


@pytest.mark.parametrize("event", ["create", "acreate"])
def test_a_room_is_created(room: SyncTestChannel, event: str) -> None:
    answer = room.assert_reply(room.push(event, {"name": "one"}), "ok")
    assert Group.objects.get().pk == answer["id"]


def test_a_name_is_asked_for(room: SyncTestChannel) -> None:
    answer = room.assert_reply(room.push("create", {}), "error")
    assert answer["reason"] == "invalid payload"
    assert not Group.objects.exists()
    room.refute_push("created")


def test_a_socket_may_refuse(
    phx_connect_sync: Callable[..., SyncTestSocket], wire: bool
) -> None:
    class Closed(Socket):
        async def connect(self, params: dict[str, object]) -> None:
            raise ConnectionRefused(403, "closed today")

    with pytest.raises(ConnectionRefused, match="closed today"):
        phx_connect_sync(Closed, wire=wire)
