"""What a node knows of revocations, and where it has that from."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import OperationalError

from phx_protocol import ConnectionRefused
from phx_protocol.node.node import get_node
from phx_protocol.revocations import arevoke, index
from phx_protocol.revocations.index import Revocations
from phx_protocol.revocations.models import Revocation
from phx_protocol.socket import renewal
from phx_protocol.testing import TestSocket, connect
from phx_protocol.wire.reasons import CloseCode
from tests.revocations.sockets import NamedSocket, RoomChannel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    RoomChannel.ended.clear()
    RoomChannel.handled.clear()
    monkeypatch.setattr(renewal, "PAUSE", 0.01)


class Database:
    """What reads the table, and how often it did."""

    def __init__(self) -> None:
        self.read = index._read
        self.whole = 0
        self.part = 0
        self.error: Exception | None = None

    def __call__(self, since: float | None) -> index.Revoked:
        if self.error is not None:
            raise self.error
        self.whole += since is None
        self.part += since is not None
        return self.read(since)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = Database()
    monkeypatch.setattr(index, "_read", database)
    yield database


def part() -> Revocations:
    return get_node().part(Revocations)


async def opened(token: str) -> TestSocket:
    socket = await connect(NamedSocket, {"token": token})
    await socket.join("room:1")
    return socket


async def refused(token: str) -> int:
    """The status with which a client with this token is refused."""
    with pytest.raises(ConnectionRefused) as error:
        await connect(NamedSocket, {"token": token})
    return error.value.status


async def write(kind: str, key: str, **more: Any) -> None:
    """Let another process revoke, of which this one hears nothing."""
    more = {"revoked_at": time.time(), **more}
    await Revocation.objects.acreate(kind=kind, key=key, **more)


# ------------------------------------------------------------------------------ tokens


async def test_a_revoked_token_is_refused_and_others_of_its_user_are_not() -> None:
    await arevoke("ada/1")
    assert await refused("ada/1") == 403
    await (await opened("ada/2")).close()


@pytest.mark.parametrize("revoked", ["ada/one", "one"])
async def test_a_token_is_revoked_by_itself_or_by_its_id(revoked: str) -> None:
    socket = await opened("ada/one")
    await arevoke(revoked)
    await socket.assert_closed(CloseCode.EXPIRED)
    assert await refused("ada/one") == 403


async def test_a_jwt_whose_signature_is_written_in_another_way_is_revoked_too() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    await arevoke(jwt)
    for signature in ("k", "l", "k=", "j", "k!", "+/", " k\n", ""):
        assert await refused(jwt[:-1] + signature) == 403
    await (
        await opened(jwt.replace("eyJzdWIiOiJhZGEifQ", "eyJzdWIiOiJib2IifQ"))
    ).close()


async def test_the_sockets_whose_token_it_is_are_closed_with_their_channels() -> None:
    sockets = [await opened(token) for token in ("ada/1", "ada/1", "ada/2", "bob/1")]
    await arevoke("ada/1")
    assert RoomChannel.ended == [("ada", "revoked")] * 2
    for socket in sockets[:2]:
        await socket.assert_closed(CloseCode.EXPIRED)
    for socket in sockets[2:]:
        await socket.join("room:2")
        await socket.close()


async def test_frames_that_wait_are_not_handled_any_more() -> None:
    socket = await opened("ada/1")
    room = await socket.join("room:2")
    await arevoke("ada/1")
    await room.push("echo", {})
    await socket.assert_closed(CloseCode.EXPIRED)
    assert RoomChannel.handled == []


async def test_only_the_newest_token_of_a_connection_closes_it() -> None:
    socket = await opened("ada/old")
    ref = "9"
    await socket.send(
        [None, ref, "phoenix", "access_token", {"access_token": "ada/new"}]
    )
    await socket._take(lambda f: f[1] == ref)
    await arevoke("ada/old")
    await socket.join("room:2")
    await arevoke("ada/new")
    await socket.assert_closed(CloseCode.EXPIRED)


async def test_a_revoked_token_is_no_new_token_either() -> None:
    await arevoke("ada/2")
    socket = await opened("ada/1")
    await socket.send([None, "9", "phoenix", "access_token", {"access_token": "ada/2"}])
    reply = (await socket._take(lambda f: f[1] == "9"))[4]
    assert reply == {"status": "error", "response": {"reason": "invalid token"}}
    await socket.close()


async def test_a_token_that_is_revoked_while_connect_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting, go_on = asyncio.Event(), asyncio.Event()

    async def waits(self: Any, params: Any) -> None:
        connecting.set()
        await go_on.wait()

    monkeypatch.setattr(NamedSocket, "connect", waits)
    coming = asyncio.create_task(refused("ada/1"))
    await connecting.wait()
    await arevoke("ada/1")
    go_on.set()
    assert await coming == 403


# ------------------------------------------------------------------------------- users


async def test_all_tokens_that_a_user_has_are_refused_and_newer_ones_are_not() -> None:
    older, newer, other = [
        await opened(token) for token in ("ada/1/10", "ada/2/-10", "bob/1/10")
    ]
    await arevoke(user="ada")
    await older.assert_closed(CloseCode.EXPIRED)
    for socket in (newer, other):
        await socket.join("room:2")
        await socket.close()
    assert await refused("ada/3/10") == 403
    await (await opened("ada/4/-10")).close()


async def test_a_token_without_an_age_is_taken_for_an_old_one() -> None:
    socket = await opened("ada")
    await arevoke(user="ada")
    await socket.assert_closed(CloseCode.EXPIRED)
    assert await refused("ada") == 403


async def test_a_user_is_revoked_again_and_again() -> None:
    await arevoke(user="ada")
    socket = await opened("ada//-0.1")
    await asyncio.sleep(0.2)
    await arevoke(user="ada")
    await socket.assert_closed(CloseCode.EXPIRED)
    assert await Revocation.objects.acount() == 1


async def test_an_older_order_that_comes_later_makes_no_token_valid_again() -> None:
    await (await opened("bob")).close()
    await arevoke(user="ada")
    older = {"kind": "user", "key": "ada", "revoked_at": time.time() - 50}
    await get_node().commands.send("revoke", older)
    assert await refused("ada/1/10") == 403


async def test_a_node_that_had_no_sockets_reads_what_it_may_not_have_heard(
    database: Database,
) -> None:
    await (await opened("ada/1")).close()
    await write("user", "ada")
    part().missed_commands()
    assert await refused("ada/1") == 403
    assert database.whole + database.part >= 2


# -------------------------------------------------------------------------- the database


async def test_what_another_process_has_revoked_is_refused_from_the_first_client_on() -> (
    None
):
    await write("user", "ada")
    assert await refused("ada/1") == 403


async def test_each_beat_reads_what_is_new_and_closes_those_it_concerns(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PAUSE", -1.0)
    socket = await opened("ada/1")
    await write("user", "ada")
    await part().beat()
    await socket.assert_closed(CloseCode.EXPIRED)
    assert database.whole == 1 <= database.part  # the node beats by itself too


async def test_many_clients_read_the_table_once(database: Database) -> None:
    sockets = await asyncio.gather(*(opened(f"ada/{n}") for n in range(20)))
    assert (database.whole, database.part) == (1, 0)
    for socket in sockets:
        await socket.close()


async def test_a_beat_without_clients_reads_nothing(database: Database) -> None:
    await part().beat()
    await (await opened("ada")).close()
    await part().beat()
    await asyncio.sleep(0)
    assert (database.whole, database.part) == (1, 0)


async def test_what_is_heard_while_the_table_is_read_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await opened("ada/1")
    reads, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(read: Any, since: float | None) -> index.Revoked:
        found: index.Revoked = await database_sync_to_async(read)(None)
        reads.set()
        await go_on.wait()
        return found

    await part()._read_soon()  # the node's first beat may be at it
    monkeypatch.setattr(index, "look_up", slowly)
    monkeypatch.setattr(index, "WHOLE", -1.0)
    monkeypatch.setattr(index, "PAUSE", -1.0)
    await part().beat()
    await reads.wait()
    await arevoke("ada/1")
    await socket.assert_closed(CloseCode.EXPIRED)
    go_on.set()
    await part()._read_soon()
    assert await refused("ada/1") == 403


async def test_rows_of_tokens_that_have_ended_are_deleted_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await (await opened("ada")).close()
    await arevoke("ended", expires_at=time.time() - index.KEPT - 1)
    await arevoke("ends", expires_at=time.time() - index.KEPT + 100)
    await arevoke("never")
    assert await refused("ada/ended") == 403
    monkeypatch.setattr(index, "WHOLE", -1.0)
    await part()._read_soon()
    assert await Revocation.objects.acount() == 2
    await (await opened("ada/ended")).close()
    assert await refused("ada/ends") == await refused("ada/never") == 403


async def test_without_the_database_a_client_with_a_token_is_refused_for_now(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.error = OperationalError("the database is away")
    with caplog.at_level(logging.ERROR):
        assert [await refused("ada/1") for _ in range(3)] == [503] * 3
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    database.error = None
    await (await opened("ada/1")).close()
    assert "the revocations can be read again" in caplog.text


async def test_without_the_database_who_is_here_stays_and_may_try_again_to_renew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await opened("ada/1")
    database.error = OperationalError("the database is away")
    monkeypatch.setattr(index, "FRESH", 0.0)
    for ref in "789":
        new = {"access_token": f"ada/{ref}"}
        await socket.send([None, ref, "phoenix", "access_token", new])
        reply = (await socket._take(lambda f: f[1] == ref))[4]
        # not "permanent", as after three bad tokens
        assert reply == {"status": "error", "response": {"reason": "unavailable"}}
    await socket.join("room:2")
    await socket.close()


async def test_a_database_that_hangs_refuses_clients_and_holds_up_no_beat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def hangs(read: Any, since: float | None) -> index.Revoked:
        await go_on.wait()
        return {}

    monkeypatch.setattr(index, "look_up", hangs)
    monkeypatch.setattr(index, "PATIENCE", 0.05)
    assert await refused("ada/1") == 503
    async with asyncio.timeout(1):
        await part().beat()
    go_on.set()
    await (await opened("ada/1")).close()
