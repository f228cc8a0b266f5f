"""Subscriptions: which commands make them as wanted, and who learns that they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError

from phx_protocol.layers.subscriptions import CHUNK, Subscriptions


def words(data: bytes) -> list[bytes]:
    """The words of a command."""
    return data.split(b"\r\n")[2::2]


class Server:
    """Takes notes of commands, and answers them when it should."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions
        self.commands: list[Any] = []

    def send(self) -> list[list[bytes]]:
        new = self.subscriptions.commands()
        self.commands += new
        return [words(b"".join(command.parts)) for command in new]

    def answer(self, answer: Any = b"OK") -> None:
        self.commands.pop(0).done(answer)


@pytest.fixture
async def server() -> Server:
    return Server(Subscriptions())


async def test_names_that_come_together_are_one_command(server: Server) -> None:
    for name in (b"a", b"b", b"a"):
        server.subscriptions.add(name)
    assert server.send() == [[b"SUBSCRIBE", b"a", b"b"]]
    assert server.commands[0].answers == 2
    waiting = asyncio.ensure_future(server.subscriptions.added(b"a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    server.answer()
    await waiting
    assert not server.subscriptions.add(b"a")
    await server.subscriptions.added(b"a")
    assert server.send() == []


async def test_a_command_has_a_bounded_number_of_names(server: Server) -> None:
    for n in range(2 * CHUNK + 1):
        server.subscriptions.add(b"%d" % n)
    assert [len(command) for command in server.send()] == [CHUNK + 1, CHUNK + 1, 2]


async def test_what_comes_and_goes_in_one_turn_costs_nothing(server: Server) -> None:
    server.subscriptions.add(b"a")
    waiting = asyncio.ensure_future(server.subscriptions.added(b"a"))
    server.subscriptions.discard(b"a")
    assert server.send() == []
    await asyncio.wait_for(waiting, 1)


async def test_what_goes_and_comes_back_is_subscribed(server: Server) -> None:
    server.subscriptions.add(b"a")
    server.send()
    server.answer()
    server.subscriptions.discard(b"a")
    server.subscriptions.add(b"a")
    assert server.send() == [[b"SUBSCRIBE", b"a"]]
    server.subscriptions.discard(b"a")
    assert server.send() == [[b"UNSUBSCRIBE", b"a"]]
    server.subscriptions.add(b"a")
    assert server.send() == [[b"SUBSCRIBE", b"a"]]
    waiting = asyncio.ensure_future(server.subscriptions.added(b"a"))
    for _ in range(2):  # those of the first time change nothing
        server.answer()
        await asyncio.sleep(0)
        assert not waiting.done()
    server.answer()
    await waiting


async def test_all_that_a_refusal_concerns_are_asked_for_one_by_one(
    server: Server,
) -> None:
    for name in (b"a", b"b", b"c"):
        server.subscriptions.add(name)
    server.send()
    waiting = [
        asyncio.ensure_future(server.subscriptions.added(name))
        for name in (b"a", b"b", b"c")
    ]
    await asyncio.sleep(0)
    server.answer(ResponseError("NOPERM"))
    assert server.send() == [[b"SUBSCRIBE", name] for name in (b"a", b"b", b"c")]
    for answer in (b"OK", ResponseError("NOPERM"), b"OK"):
        server.answer(answer)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        ResponseError,
        type(None),
    ]


async def test_a_lost_connection_is_an_error_for_who_waits_and_all_is_restored(
    server: Server,
) -> None:
    server.subscriptions.add(b"old")
    server.send()
    server.answer()
    server.subscriptions.add(b"new")
    server.send()
    server.subscriptions.add(b"newer")
    waiting = [
        asyncio.ensure_future(server.subscriptions.added(name))
        for name in (b"new", b"newer")
    ]
    await asyncio.sleep(0)
    server.subscriptions.lost(ConnectionError("gone"))
    server.answer(ConnectionError("gone"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["gone", "gone"]
    with pytest.raises(ConnectionError):
        await server.subscriptions.added(b"old")
    server.subscriptions.discard(b"newer")
    restored = server.subscriptions.restore()
    assert restored is not None
    [[word, *names]] = server.send()
    assert word == b"SUBSCRIBE" and {*names} == {b"old", b"new"}
    server.answer()
    assert await restored is None
    await server.subscriptions.added(b"old")


async def test_who_stops_waiting_takes_nothing_from_the_others(server: Server) -> None:
    server.subscriptions.add(b"a")
    server.send()
    one, other = (
        asyncio.ensure_future(server.subscriptions.added(b"a")) for _ in range(2)
    )
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    server.answer()
    await asyncio.wait_for(other, 1)


async def test_a_subscription_that_redis_does_not_restore_is_logged(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it: who wanted it was told long ago that messages arrive."""
    for name in (b"a", b"b"):
        server.subscriptions.add(name)
    server.send()
    server.answer()
    server.subscriptions.lost(ConnectionError("gone"))
    restored = server.subscriptions.restore()
    assert restored is not None
    server.send()
    server.answer(ResponseError("NOPERM"))
    server.send()
    for answer in (b"OK", ResponseError("NOPERM of b")):
        server.answer(answer)
    await restored
    await asyncio.sleep(0)
    assert "does not restore" in caplog.text and "NOPERM of b" in caplog.text


async def test_who_waits_for_what_nobody_wants_any_more_learns_of_a_loss(
    server: Server,
) -> None:
    """Even if it was never sent, as there was no connection yet."""
    server.subscriptions.add(b"a")
    waiting = asyncio.ensure_future(server.subscriptions.added(b"a"))
    await asyncio.sleep(0)
    server.subscriptions.discard(b"a")
    server.subscriptions.lost(ConnectionError("gone"))
    await asyncio.wait_for(waiting, 5)


async def test_a_refused_name_that_is_not_wanted_any_more_is_not_asked_for_again(
    server: Server,
) -> None:
    for name in (b"a", b"b"):
        server.subscriptions.add(name)
    server.send()
    waiting = asyncio.ensure_future(server.subscriptions.added(b"b"))
    await asyncio.sleep(0)
    server.answer(ResponseError("NOPERM"))
    server.subscriptions.discard(b"a")
    assert server.send() == [[b"SUBSCRIBE", b"b"]]
    server.answer()
    await asyncio.wait_for(waiting, 5)


async def test_a_late_refusal_does_not_hide_a_newer_subscription(
    server: Server,
) -> None:
    for name in (b"a", b"b"):
        server.subscriptions.add(name)
    server.send()
    server.subscriptions.discard(b"a")
    server.subscriptions.add(b"a")
    assert server.send() == [[b"SUBSCRIBE", b"a"]]
    server.answer(ResponseError("NOPERM"))  # to the first one
    server.answer()
    await server.subscriptions.added(b"a")
    server.subscriptions.discard(b"a")
    assert server.send()[0] == [b"UNSUBSCRIBE", b"a"]
