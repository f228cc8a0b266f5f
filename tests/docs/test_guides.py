"""The examples of the guides do what the guides say."""

from __future__ import annotations

from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType

from phx_protocol import ConnectionRefused, JoinDenied, Socket
from phx_protocol.testing import connect
from phx_protocol.tokens import sign
from phx_protocol.wire import json
from tests.docs.blocks import of

pytestmark = pytest.mark.django_db


def shown(page: str, name: str, without: str = "", **more: Any) -> Any:
    """Return the object `name` that a block of `page` defines."""
    for block in of("python"):
        if block.page == page and f" {name}" in block.code:
            made = {"__name__": "shown", **more}
            exec(block.code.replace(without, ""), made)
            if name in made:
                return made[name]
    raise LookupError(name)


async def test_a_channel_from_phoenix_does_what_it_did_there() -> None:
    user_socket = shown("from-phoenix.md", "UserSocket")
    one, two = [
        await connect(user_socket, {"token": sign(user, salt="user socket")})
        for user in (1, 2)
    ]
    mine, theirs = [await socket.join("room:lobby") for socket in (one, two)]
    assert mine.reply == {"room": "lobby"}
    await mine.assert_push("welcome", {})
    await mine.assert_reply(await mine.push("new_msg", {"body": "hi"}), "ok")
    await mine.assert_push("new_msg", {"body": "hi", "user": 1, "own": True})
    await theirs.assert_push("new_msg", {"body": "hi", "user": 1, "own": False})
    await one.close()
    await two.close()
    with pytest.raises(ConnectionRefused):
        await connect(user_socket, {"token": sign(1, salt="another")})


async def test_a_socket_takes_the_token_that_it_reads_itself() -> None:
    device_socket = shown("authentication.md", "DeviceSocket")
    socket = await connect(device_socket, auth_token=sign("lamp", salt="device"))
    await socket.close()
    for token in (None, sign("lamp")):
        with pytest.raises(ConnectionRefused):
            await connect(device_socket, auth_token=token)


async def test_joining_and_deleting_need_the_permissions_of_the_example(
    phx_connect: Any,
) -> None:
    room = shown("authentication.md", "RoomChannel")
    socket_class = type("RoomSocket", (Socket,), {"channels": {"room:*": room}})
    user = await User.objects.acreate(username="ann")
    kind = await ContentType.objects.acreate(app_label="chat", model="room")
    may_view = await Permission.objects.acreate(codename="view_room", content_type=kind)

    socket = await phx_connect(socket_class, user=user)
    with pytest.raises(JoinDenied, match="unauthorized"):
        await socket.join("room:lobby")

    await user.user_permissions.aadd(may_view)
    await user.groups.aadd(await Group.objects.acreate(name="lobby"))
    socket = await phx_connect(socket_class, user=await User.objects.aget())
    with pytest.raises(JoinDenied, match="unauthorized"):
        await socket.join("room:attic")
    lobby = await socket.join("room:lobby")
    ref = await lobby.push("delete")
    await lobby.assert_reply(ref, "error", {"reason": "unauthorized"})


async def test_consumers_and_channels_live_side_by_side() -> None:
    consumer = shown("from-channels.md", "ChatConsumer")
    application = shown(
        "from-channels.md",
        "application",
        "from .consumers import ChatConsumer",
        ChatConsumer=consumer,
    )
    old = WebsocketCommunicator(application, "/ws/chat/lobby/")
    assert await old.connect() == (False, 1000)  # by the consumer: nobody is signed in
    new = WebsocketCommunicator(application, "/socket/websocket?vsn=2.0.0")
    assert (await new.connect())[0]
    await new.send_to(text_data='[null,"1","phoenix","heartbeat",{}]')
    assert json.decode(await new.receive_from())[1] == "1"
    await new.disconnect()
