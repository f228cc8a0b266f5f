"""One connection: answers in their order, messages in between, an event loop that others use too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from phx_protocol.layers import connection as module
from phx_protocol.layers import resp
from phx_protocol.layers.connection import Command, Connection
from phx_protocol.layers.server import Server


class Owner:
    """Keeps what the connection reports."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes, bytes | None]] = []
        self.errors: list[Exception] = []
        self.slow = 0.0

    def message(self, channel: bytes, data: bytes, exclude: bytes | None) -> None:
        time.sleep(self.slow)
        self.messages.append((channel, data, exclude))

    def answered(self) -> None: ...

    def lost(self, connection: Connection, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def connection(redis_url: str, owner: Owner) -> AsyncIterator[Connection]:
    connection = await Server({"address": redis_url}).connect(owner)
    yield connection
    await connection.end()


def command(answers: list[Any], *words: bytes, count: int = 1) -> Command:
    data = resp.pack(*words)
    return Command((data,), len(data), answers.append, count)


def publish(
    answers: list[Any], channel: bytes, data: bytes, exclude: bytes | None
) -> Command:
    parts = resp.pack_publish(b"PUBLISH", channel, data)
    echo = (channel, data) if exclude is not None else None
    return Command(parts, 1, answers.append, echo=echo, exclude=exclude)


async def until(wanted: Any) -> None:
    async with asyncio.timeout(10):
        while not wanted():
            await asyncio.sleep(0.005)


async def test_each_command_gets_its_answer(connection: Connection) -> None:
    answers: list[Any] = []
    connection.write(
        [
            command(answers, b"ECHO", b"a"),
            command(answers, b"SUBSCRIBE", b"x", b"y", count=2),
            command(answers, b"NONSENSE"),
            command(answers, b"ECHO", b"b"),
            command(answers, b"UNSUBSCRIBE", b"x", b"y", count=2),
            command(answers, b"SUBSCRIBE", count=2),
            command(answers, b"ECHO", b"c"),
        ]
    )
    assert connection.in_flight > 0
    await until(lambda: len(answers) == 7)
    assert [answers[n] for n in (0, 3, 6)] == [b"a", b"b", b"c"]
    assert answers[1] == [b"subscribe", b"y", 2]
    assert "unknown command" in str(answers[2]) and "wrong number" in str(answers[5])
    assert connection.in_flight == 0


async def test_it_knows_its_own_messages_from_equal_ones_of_others(
    connection: Connection, owner: Owner, redis_url: str
) -> None:
    answers: list[Any] = []
    connection.write([command(answers, b"SUBSCRIBE", b"x", b"y", count=2)])
    mine = [publish(answers, b"x", b"same", b"me"), publish(answers, b"x", b"", None)]
    mine += [publish(answers, b"not subscribed", b"same", b"me")]
    mine += [publish(answers, channel, b"same", b"me") for channel in (b"y", b"y")]
    connection.write(mine)
    await until(lambda: len(answers) == 6)
    async with Redis.from_url(redis_url) as other:
        await other.publish("y", b"same")
        await other.publish("y", b"same")
        await other.publish("y", b"last")
    await until(lambda: owner.messages and owner.messages[-1][1] == b"last")
    own = [(b"x", b"same", b"me"), (b"x", b"", None), *2 * [(b"y", b"same", b"me")]]
    others = [*2 * [(b"y", b"same", None)], (b"y", b"last", None)]
    assert owner.messages == own + others


async def test_many_messages_do_not_hold_the_event_loop(
    connection: Connection, owner: Owner, redis_url: str
) -> None:
    answers: list[Any] = []
    connection.write([command(answers, b"SUBSCRIBE", b"x")])
    await until(lambda: answers)
    owner.slow = module.HELD / 3
    connection.write([publish(answers, b"x", b"%d" % n, None) for n in range(60)])
    turns: list[int] = []
    while len(owner.messages) < 60:
        turns.append(len(owner.messages))
        await asyncio.sleep(0)
    assert [int(data) for _, data, _ in owner.messages] == [*range(60)]
    assert max(b - a for a, b in zip(turns, turns[1:])) <= 5


async def test_what_arrives_during_a_pause_is_taken_after_it(
    connection: Connection, owner: Owner
) -> None:
    """As an event loop may have read it already."""
    connection._pause()
    for n in range(3):
        connection.data_received(b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\n%d\r\n" % n)
    assert not owner.messages
    await until(lambda: owner.messages)
    assert [data for _, data, _ in owner.messages] == [b"0", b"1", b"2"]


async def test_bytes_that_are_no_answer_end_it(
    connection: Connection, owner: Owner
) -> None:
    answers: list[Any] = []
    connection.write([command(answers, b"ECHO", b"a")])
    connection.data_received(b":1\r\n:2\r\n")
    await until(lambda: owner.errors)
    assert answers == [1] and "answered nothing" in str(owner.errors[0])


async def test_what_is_written_on_one_that_is_ending_fails(
    connection: Connection, owner: Owner
) -> None:
    answers: list[Any] = []
    connection.abort(ConnectionError("enough"))
    connection.write([command(answers, b"ECHO", b"a")])
    await until(lambda: owner.errors)
    assert [str(answer) for answer in answers] == ["enough"]


async def test_who_fails_to_take_an_answer_or_the_end_harms_no_other(
    connection: Connection, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = []

    def fail(answer: Any) -> None:
        raise RuntimeError(f"cannot take {answer!r:.20}")

    failing = command(answers, b"ECHO", b"a")
    failing.done = fail
    connection.write([failing, command(answers, b"ECHO", b"b")])
    await until(lambda: answers)
    assert answers == [b"b"] and not owner.errors
    failing.answers = 1
    connection.write([failing, command(answers, b"ECHO", b"c")])
    connection.abort(ConnectionError("enough"))
    await until(lambda: len(answers) == 2)
    assert str(answers[1]) == "enough"
    assert caplog.text.count("was not taken") == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({b"role": b"master", b"proto": 3}, None),
        ({b"proto": 3}, None),
        ({b"role": b"replica"}, "its role is replica"),
        (resp._error(b"LOADING Redis is loading the dataset"), "LOADING"),
        (resp._error(b"NOAUTH HELLO must be called"), "NOAUTH"),
        (resp._error(b"NOPERM no right to run hello"), None),
        (resp._error(b"MASTERDOWN Link with MASTER is down"), "MASTERDOWN"),
    ],
)
def test_what_hello_says_of_a_primary(answer: Any, error: str | None) -> None:
    if error is None:
        return module._check_role(answer)
    with pytest.raises(ConnectionError, match=error):
        module._check_role(answer)
