"""Test helpers, named as those of ``Phoenix.ChannelTest``.

::

    socket = await connect(UserSocket, {"token": token}, user=user)
    room = await socket.join("room:lobby")
    ref = await room.push("new_msg", {"body": "hi"})
    await room.assert_reply(ref, "ok")
    await room.assert_broadcast("new_msg", {"body": "hi"})
    await room.refute_push("phx_error")
    await socket.close()

and for tests that are not async::

    with connect_sync(UserSocket, user=user) as socket:
        room = socket.join("room:lobby")
        room.assert_reply(room.push("new_msg", {"body": "hi"}), "ok")

A test drives a whole connection, with its frames; with ``wire=False`` the Socket and its channels
are called directly. Callbacks that are a plain ``def``, and the async ORM, use the thread and the
database connection of the test, so that ``TestCase`` sees what they write and rolls it back.
``phx_protocol.pytest_plugin`` has fixtures that close the connections that a test leaves open.
"""

from .blocking import SyncTestChannel, SyncTestSocket, connect_sync
from .clients import TestChannel, TestSocket, connect, matches
from .communicators import decode_frame

__all__ = [
    "SyncTestChannel",
    "SyncTestSocket",
    "TestChannel",
    "TestSocket",
    "connect",
    "connect_sync",
    "decode_frame",
    "matches",
]
