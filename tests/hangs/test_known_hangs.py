"""Known hangs of tests of Channels consumers, and known breaks of their database.

Each test has the report of somebody to whom it happened; the cases run with the wire and without.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection
from django.test import (
    LiveServerTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from phx_protocol import Reason, abroadcast, broadcast
from phx_protocol.node.node import all_nodes
from phx_protocol.testing import (
    SyncTestSocket,
    TestSocket,
    blocking,
    clients,
    connect,
    connect_sync,
)
from phx_protocol.testing.database import unshare
from tests.hangs.rooms import RoomSocket, ended, gate

Connect = Callable[..., Awaitable[TestSocket]]


@pytest.fixture(params=[True, False], ids=["wire", "direct"])
def wire(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assertions that are to fail do so at once."""
    monkeypatch.setattr(clients, "TIMEOUT", 0.1)


class Cases:
    """Under any of Django's test cases, async or not."""

    wire = True

    def test_a_handler_that_uses_the_orm_sees_the_test_and_is_seen(self) -> None:
        """django/channels#1091, #1110, #2007: no row, "database table is locked", or a hang."""
        Group.objects.create(name="of the test")
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            for n, event in enumerate(("create", "acreate"), 2):
                ref = room.push(event, {"name": event})
                room.assert_reply(ref, "ok", {"groups": n})
        assert Group.objects.count() == 3

    async def test_an_async_test_sees_the_same(self) -> None:
        """django/channels#1091, #1110, #1512, #1852: the same under ``async def``."""
        await Group.objects.acreate(name="of the test")
        socket = await connect(RoomSocket, wire=self.wire)
        room = await socket.join("room:1")
        for n, event in enumerate(("create", "acreate"), 2):
            ref = await room.push(event, {"name": event})
            await room.assert_reply(ref, "ok", {"groups": n})
        await socket.close()
        assert await Group.objects.acount() == 3

    def test_closing_old_connections_does_not_close_that_of_the_test(self) -> None:
        """django/channels#462, #1225, #2043, #2118, #2150: "connection already closed"."""
        Group.objects.create(name="of the test")
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            for event in ("wrapped", "close_old", "aclose_old", "wrapped"):
                room.assert_reply(room.push(event), "ok", {"groups": 1})
                assert Group.objects.count() == 1

    async def test_closing_old_connections_in_an_async_test_does_not_close_that_of_the_test(
        self,
    ) -> None:
        """django/channels#462, #1225, #2043, #2118, #2150, with two clients at once."""
        await Group.objects.acreate(name="of the test")
        sockets = [await connect(RoomSocket, wire=self.wire) for _ in range(2)]
        for socket in sockets:
            room = await socket.join("room:1")
            for event in ("wrapped", "close_old", "aclose_old", "wrapped"):
                await room.assert_reply(await room.push(event), "ok", {"groups": 1})
                assert await Group.objects.acount() == 1
        for socket in sockets:
            await socket.close()

    def test_a_plain_def_handler_may_call_async_to_sync(self) -> None:
        """django/channels#848, #944, #1020: an error about the event loop, or a hang."""
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            room.assert_reply(room.push("bridge"), "ok", {"groups": 0})
            room.assert_push("pushed", {"groups": 0})
            room.assert_push("news")
            room.assert_push("news")

    def test_it_may_wait_for_what_another_task_does_with_the_database(self) -> None:
        """django/asgiref#249, #348: that one waits for the thread that waits for it."""
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            for event in ("bridge_to_a_task", "bridges", "bridge_to_a_task"):
                room.assert_reply(room.push(event), "ok", {"groups": 0})

    def test_it_may_wait_for_our_own_synchronous_calls(self) -> None:
        """The same with ``Presence.sync``, whose ``fetch`` asks the database on the loop."""
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            ref = room.push("presences")
            room.assert_reply(ref, "ok", {"ann": {"groups": 0}})

    async def test_a_plain_def_handler_of_an_async_test_may_call_it_too(self) -> None:
        """django/channels#848, #944, #1020, #1194."""
        socket = await connect(RoomSocket, wire=self.wire)
        room = await socket.join("room:1")
        await room.assert_reply(await room.push("bridge"), "ok", {"groups": 0})
        await room.assert_push("pushed", {"groups": 0})
        await socket.close()

    @override_settings(ROOT_URLCONF="tests.hangs.rooms")
    def test_a_view_broadcasts_while_a_client_listens(self) -> None:
        """django/channels#1026: "You cannot use AsyncToSync in the same thread"."""
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            self.client.get("/say")  # type: ignore[attr-defined]
            room.assert_push("said", {"groups": 0})

    @override_settings(ROOT_URLCONF="tests.hangs.rooms")
    async def test_a_view_broadcasts_while_an_async_client_listens(self) -> None:
        """django/channels#1026, with Django's AsyncClient."""
        socket = await connect(RoomSocket, wire=self.wire)
        room = await socket.join("room:1")
        await self.async_client.get("/say")  # type: ignore[attr-defined]
        await room.assert_push("said", {"groups": 0})
        await socket.close()


class InATestCase(Cases, TestCase):
    def test_the_connection_is_the_one_that_the_test_began_with(self) -> None:
        """django/channels#2150: what undoes a test needs the connection of its beginning."""
        before = connection.connection
        with connect_sync(RoomSocket, wire=self.wire) as socket:
            room = socket.join("room:1")
            for event in ("wrapped", "close_old", "aclose_old"):
                room.assert_reply(room.push(event), "ok")
        assert connection.connection is before and connection.in_atomic_block


class InATestCaseWithoutTheWire(InATestCase):
    wire = False


class InATransactionTestCase(Cases, TransactionTestCase):
    pass


class InATransactionTestCaseWithoutTheWire(InATransactionTestCase):
    wire = False


@override_settings(ROOT_URLCONF="tests.hangs.rooms")
class BesideALiveServer(LiveServerTestCase):
    def test_a_page_of_a_live_server_broadcasts_to_a_client(self) -> None:
        """django/channels#961, #962: no database in memory, or a hang."""
        Group.objects.create(name="of the test")
        for wire in (True, False):
            with connect_sync(RoomSocket, wire=wire) as socket:
                room = socket.join("room:1")
                urllib.request.urlopen(f"{self.live_server_url}/say", timeout=5).close()
                room.assert_push("said", {"groups": 1})


# ------------------------------------------------------------------ pytest-django


@pytest.fixture
def group(db: None) -> Group:
    return Group.objects.create(name="of the test")


@pytest.mark.parametrize("again", [1, 2])
async def test_an_async_test_needs_no_transaction_of_its_own(
    phx_connect: Connect, group: Group, wire: bool, again: int
) -> None:
    """pytest-django#580, pytest-asyncio#226, django/channels#1110: the handler does not see what
    a fixture made ("database table is locked"), and what it makes stays for the next test.
    """
    room = await (await phx_connect(RoomSocket, wire=wire)).join("room:1")
    for n, event in enumerate(("create", "acreate"), 2):
        ref = await room.push(event, {"name": event})
        await room.assert_reply(ref, "ok", {"groups": n})
    await room.assert_reply(await room.push("wrapped"), "ok", {"groups": 3})
    await room.assert_reply(await room.push("bridge"), "ok", {"groups": 3})


async def test_connect_alone_shows_handlers_what_a_fixture_made(
    group: Group, wire: bool
) -> None:
    """django/channels#1110: "database table is locked"."""
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    ref = await room.push("create", {"name": "another"})
    await room.assert_reply(ref, "ok", {"groups": 2})
    await socket.close()
    assert await Group.objects.acount() == 2


def test_and_nothing_stays(db: None) -> None:
    assert not Group.objects.exists()


@pytest.mark.django_db(transaction=True)
async def test_an_async_test_may_have_one(phx_connect: Connect, wire: bool) -> None:
    """django/channels#1512, #1852, #2043."""
    await Group.objects.acreate(name="of the test")
    room = await (await phx_connect(RoomSocket, wire=wire)).join("room:1")
    for event in ("wrapped", "close_old", "aclose_old", "bridge"):
        await room.assert_reply(await room.push(event), "ok", {"groups": 1})


@pytest.mark.django_db(transaction=True)
async def test_no_connection_stays_open_behind_an_async_test(wire: bool) -> None:
    """pytest-asyncio#82, django/channels#1091, asgiref#114: PostgreSQL drops no database that "is
    being accessed by other users"."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        pytest.skip("a database in memory ends with its connection: Django closes none")
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    await room.assert_reply(await room.push("acreate", {"name": "one"}), "ok")
    await socket.close()
    assert await sync_to_async(lambda: connection.connection)() is not None
    unshare()  # as the plugin does when the test has ended
    assert await sync_to_async(lambda: connection.connection)() is None


@pytest.mark.django_db(transaction=True)
async def test_a_callback_that_waits_for_another_task_in_an_async_test_fails_and_is_named(
    brief: None, wire: bool
) -> None:
    """django/asgiref#249, #348: both need the one thread that Django has for sync code.

    In production plain def callbacks have threads of their own.
    """
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    with pytest.raises(AssertionError, match="did not arrive"):
        await room.assert_reply(await room.push("bridge_to_a_task"), "ok")
    with pytest.raises(AssertionError, match="handles 'bridge_to_a_task'"):
        await socket.close()
    assert await Group.objects.acount() == 0  # the thread is free again


# ------------------------------------------------------ assertions, ends, the forgotten


@pytest.mark.usefixtures("brief")
async def test_an_assertion_that_fails_does_not_end_the_connection(wire: bool) -> None:
    """django/channels#957, django/asgiref#417: a timeout cancels the consumer."""
    ended.clear()
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    for _ in range(2):
        with pytest.raises(AssertionError, match="did not arrive"):
            await room.assert_push("nothing")
    await abroadcast("room:1", "news", {})
    await room.assert_push("news")
    await socket.close()
    assert ended == [Reason.CLOSED]


def test_a_test_that_forgets_to_close_leaves_nothing_behind(
    wire: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """django/channels#1057, channels_redis#312, pytest-asyncio#179: "Task was destroyed but it is
    pending!", and "Event loop is closed" in the test behind it."""

    async def forget() -> None:
        socket = await connect(RoomSocket, wire=wire)
        await (await socket.join("room:1")).push("wait")

    async def hear() -> None:
        socket = await connect(RoomSocket, wire=wire)
        room = await socket.join("room:1")
        await abroadcast("room:1", "news", {})
        await room.assert_push("news")
        await room.refute_push("news")
        await socket.close()

    gc.collect()  # what other tests have left
    caplog.clear()
    asyncio.run(forget())
    gc.collect()
    asyncio.run(hear())
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.fixture
def all_end() -> Iterator[None]:
    ended.clear()
    yield
    assert ended == [Reason.CLOSED]


def test_a_fixture_closes_what_a_sync_test_forgets(
    all_end: None, phx_connect_sync: Callable[..., SyncTestSocket], wire: bool
) -> None:
    """django/channels#1057, for a test that is not async."""
    phx_connect_sync(RoomSocket, wire=wire).join("room:1")


def test_without_the_fixture_it_is_gone_with_the_next_client(wire: bool) -> None:
    """The same: no callback of one test runs in the next one, on its database."""

    def forget() -> None:
        room = connect_sync(RoomSocket, wire=wire).join("room:1")
        room.push("wait")
        room.socket.join("room:2")

    forget()
    gc.collect()
    with connect_sync(RoomSocket, wire=wire) as socket:
        room = socket.join("room:1")
        broadcast("room:1", "news", {})
        room.assert_push("news")
        assert sum(len(node.connections) for node in all_nodes()) == 1


@pytest.mark.usefixtures("brief")
async def test_a_handler_that_never_ends_is_named_and_ended(wire: bool) -> None:
    """django/channels#1057: it went on behind the test, in silence."""
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    before = asyncio.all_tasks()
    await room.push("wait")
    with pytest.raises(AssertionError, match="callbacks still run.*'wait'"):
        await room.refute_push("anything")
    (stuck,) = asyncio.all_tasks() - before
    with pytest.raises(AssertionError, match="callbacks still run.*'wait'"):
        await socket.close()
    await asyncio.wait({stuck}, timeout=1)
    assert stuck.done()


def test_a_handler_that_blocks_the_loop_raises_an_error(
    monkeypatch: pytest.MonkeyPatch, wire: bool
) -> None:
    """No timeout of asyncio ever ends then."""
    gate.clear()
    socket = connect_sync(RoomSocket, wire=wire)
    room = socket.join("room:1")
    with monkeypatch.context() as brief:
        brief.setattr(blocking, "BLOCKED", 0.1)
        with pytest.raises(RuntimeError, match="blocks it"):
            room.assert_reply(room.push("block"), "ok")
    gate.set()
    socket.close()


# ------------------------------------------------------------------- event loops


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.process)])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """The one channel layer of a process, whose loops come and go."""
    backend: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    if request.param == "redis":
        hosts = [request.getfixturevalue("redis_url")]
        backend = {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": hosts},
        }
    with override_settings(CHANNEL_LAYERS={"default": backend}):
        yield


async def tell_and_hear(wire: bool) -> None:
    socket = await connect(RoomSocket, wire=wire)
    room = await socket.join("room:1")
    await abroadcast("room:1", "news", {})
    await room.assert_push("news")
    await socket.close()


def test_each_test_may_have_a_loop_of_its_own(layer: None, wire: bool) -> None:
    """django/channels#876, #889, #908, #1112: "Event loop is closed" from the second test on."""
    for _ in range(3):
        asyncio.run(tell_and_hear(wire))


def test_two_loops_of_a_process_hear_each_other(layer: None, wire: bool) -> None:
    """django/channels#859, #891, #907, #1342: "attached to a different loop"."""
    with connect_sync(RoomSocket, wire=wire) as socket:
        room = socket.join("room:1")
        asyncio.run(tell_and_hear(wire))
        room.assert_push("news")


def test_clients_that_a_test_keeps_do_not_keep_its_layer(
    redis_url: str, wire: bool
) -> None:
    """As a ``TestCase`` with ``self.socket``, which lives until the last test has run."""

    async def tell() -> None:
        await abroadcast("room:1", "news", {})

    memory = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    redis = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [redis_url]},
    }
    kept = []
    for layer in (memory, redis):
        with override_settings(CHANNEL_LAYERS={"default": layer}):
            kept.append(connect_sync(RoomSocket, wire=wire))
            room = kept[-1].join("room:1")
            asyncio.run(tell())
            room.assert_push("news")
            kept[-1].close()


def test_a_client_of_another_loop_says_so(wire: bool) -> None:
    """django/channels#1342, #1947: a client that ``setUp`` made on a loop that is closed."""
    socket = asyncio.run(connect(RoomSocket, wire=wire))
    for use in (TestSocket.settled, TestSocket.close):
        with pytest.raises(RuntimeError, match="another event loop.*connect_sync"):
            asyncio.run(use(socket))
    with pytest.raises(RuntimeError, match="another event loop.*connect_sync"):
        asyncio.run(socket.join("room:1"))


def test_a_sync_client_may_be_made_where_it_is_not_used(wire: bool) -> None:
    """django/channels#1947: made in ``setUp``, used in the test and in a thread of it."""
    socket: SyncTestSocket = connect_sync(RoomSocket, wire=wire)
    thread = threading.Thread(target=socket.join, args=("room:1",))
    thread.start()
    thread.join()
    socket.join("room:2")
    socket.close()
