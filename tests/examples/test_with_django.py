"""A suite of Django's own test cases, async and not."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.test import TestCase, TransactionTestCase

from phx_protocol import JoinDenied, broadcast
from phx_protocol.testing import connect, connect_sync
from tests.examples.chat import ChatSocket


class RoomTests(TestCase):
    wire = True
    user: User

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = User.objects.create_user("ann")
        Group.objects.create(name="there before")

    def test_a_room_is_created(self) -> None:
        with connect_sync(ChatSocket, user=self.user, wire=self.wire) as socket:
            room = socket.join("room:lobby")
            self.assertEqual(room.reply, {"rooms": 1})
            answer = room.assert_reply(room.push("create", {"name": "one"}), "ok")
            self.assertEqual(Group.objects.get(pk=answer["id"]).name, "one")
            self.assertTrue(self.user.groups.filter(name="one").exists())
            room.assert_reply(room.push("acreate", {"name": "two"}), "ok")
            room.assert_broadcast("created", {"name": "two"})
            room.assert_reply(room.push("count"), "ok", {"users": 1, "groups": 3})

    def test_the_other_test_has_left_nothing_behind(self) -> None:
        self.assertEqual(Group.objects.count(), 1)

    def test_a_broadcast_on_commit_is_sent_when_its_callback_is_captured(self) -> None:
        with connect_sync(ChatSocket, user=self.user, wire=self.wire) as socket:
            room = socket.join("room:lobby")
            with self.captureOnCommitCallbacks(execute=True):
                room.assert_reply(room.push("create", {"name": "one"}), "ok")
                room.refute_push("created")
            room.assert_push("created", {"name": "one"})

    def test_a_view_broadcasts_to_two_clients(self) -> None:
        with (
            connect_sync(ChatSocket, user=self.user, wire=self.wire) as one,
            connect_sync(ChatSocket, user=self.user, wire=self.wire) as two,
        ):
            rooms = [socket.join("room:lobby") for socket in (one, two)]
            broadcast("room:lobby", "news", {"n": 1})
            for room in rooms:
                room.assert_push("news", {"n": 1})

    def test_a_user_who_is_not_signed_in_cannot_join(self) -> None:
        with connect_sync(ChatSocket, wire=self.wire) as socket:
            with self.assertRaises(JoinDenied):
                socket.join("room:lobby")

    async def test_async_it_reads_the_same(self) -> None:
        socket = await connect(ChatSocket, user=self.user, wire=self.wire)
        room = await socket.join("room:lobby")
        await room.assert_reply(await room.push("create", {"name": "one"}), "ok")
        await room.assert_reply(await room.push("acreate", {"name": "two"}), "ok")
        self.assertEqual(await Group.objects.acount(), 3)
        await room.assert_reply(await room.push("count"), "ok", {"groups": 3})
        await socket.close()


class DirectRoomTests(RoomTests):
    wire = False


class CommittedTests(TransactionTestCase):
    wire = True

    def test_a_broadcast_on_commit_is_sent_at_once(self) -> None:
        user = User.objects.create_user("ann")
        with connect_sync(ChatSocket, user=user, wire=self.wire) as socket:
            room = socket.join("room:lobby")
            room.assert_reply(room.push("create", {"name": "one"}), "ok")
            room.assert_push("created", {"name": "one"})
        self.assertEqual(Group.objects.count(), 1)

    def test_a_crash_in_the_database_leaves_the_next_client_alone(self) -> None:
        user = User.objects.create_user("ann")
        clash: dict[str, Any] = {"name": "one"}
        with connect_sync(ChatSocket, user=user, wire=self.wire) as socket:
            room = socket.join("room:lobby")
            room.push("clash", clash)
            room.push("clash", clash)
            room.assert_ended(crashed=True)
            room = socket.join("room:lobby")
            room.assert_reply(room.push("count"), "ok", {"groups": 1})


class DirectCommittedTests(CommittedTests):
    wire = False
