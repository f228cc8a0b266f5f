"""A client sends a new token over its living connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.signing import BadSignature

from phx_protocol import Channel, event
from phx_protocol.auth.credentials import Credential
from phx_protocol.socket import renewal
from phx_protocol.socket.connection import Connection
from phx_protocol.socket.refusals import refusals
from phx_protocol.testing import TestChannel, TestSocket, connect
from phx_protocol.tokens import TokenSocket
from phx_protocol.wire.reasons import CloseCode, Refusal
from tests.support.visitor import Visitor

NOW = 0.0  # when the test began


class RoomChannel(Channel):
    async def authorize(self) -> bool:
        self.socket.asked.append(self.topic)
        return self.socket.is_welcome

    async def join(self, payload: Any) -> Any:
        return "ok", {"expires_at": self.socket.expires_at}

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload


class OwnChannel(RoomChannel):
    @event("access_token")
    async def access_token(self, payload: Any) -> Any:
        return "ok", {"mine": payload["access_token"]}


class RenewedSocket(TokenSocket):
    """Its tokens are ``<user>:<seconds from now>``, or ``<user>:`` without an end."""

    channels = {"room:*": RoomChannel, "own:*": OwnChannel}
    token_param = "token"
    is_welcome = True
    #: how long a check takes
    slow = 0.0
    newest: ClassVar[RenewedSocket]

    def __init__(self, scope: dict[str, Any]) -> None:
        super().__init__(scope)
        self.asked: list[str] = []
        self.read: list[str] = []
        RenewedSocket.newest = self

    async def read_token(self, token: str) -> Credential:
        self.read.append(token)
        await asyncio.sleep(self.slow)
        if token == "boom":
            raise LookupError("the service that reads tokens is away")
        if token == "nothing":
            return None  # type: ignore[return-value]
        name, colon, seconds = token.partition(":")
        if not colon:
            raise BadSignature("it has no colon")
        user = Visitor(name) if name else AnonymousUser()
        return Credential(user, NOW + float(seconds) if seconds else None)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    global NOW
    NOW = time.time()  # a whole run of the tests takes longer than these tokens last
    monkeypatch.setattr(renewal, "PAUSE", 0.01)
    refusals.clear()


class Tab:
    """A client, and the socket that the server has of it."""

    def __init__(self, client: TestSocket, socket: RenewedSocket) -> None:
        self.client = client
        self.socket = socket
        self.joined: dict[str, TestChannel] = {}

    async def join(self, topic: str, payload: Any = None) -> Any:
        """The reply of the join."""
        self.joined[topic] = await self.client.join(topic, payload)
        return self.joined[topic].reply

    async def send(self, topic: str, event: str, payload: Any) -> Any:
        """Send an event; return what waits for the status and the payload of its reply."""
        channel = self.joined.get(topic)
        join_ref, ref = channel and channel.join_ref, str(next(self.client._refs))
        await self.client.send([join_ref, ref, topic, event, payload])

        async def reply() -> Any:
            frame = await self.client._take(lambda f: f[1] == ref)
            assert frame[0] == join_ref and frame[2] == topic
            return frame[4]["status"], frame[4]["response"]

        return reply()

    async def push(self, topic: str, event: str, payload: Any) -> Any:
        return await (await self.send(topic, event, payload))

    async def renew(self, token: Any, topic: str = "phoenix") -> Any:
        return await self.push(topic, "access_token", {"access_token": token})

    async def renewed(self, token: str) -> float | None:
        """Until when the client may be there, by the reply to a valid token."""
        status, reply = await self.renew(token)
        assert status == "ok"
        return reply["expires_at"]

    async def renew_all(self, *tokens: str, topics: Iterable[str] = ()) -> list[Any]:
        """The replies to messages that are sent one right after the other."""
        replies = [
            await self.send(topic, "access_token", {"access_token": token})
            for token, topic in zip(tokens, topics or ["phoenix"] * len(tokens))
        ]
        return [await reply for reply in replies]


async def opened(token: str, *topics: str, kind: Any = RenewedSocket) -> Tab:
    client = await connect(kind, {"token": token})
    tab = Tab(client, kind.newest)
    for topic in topics:
        await tab.join(topic)
    tab.socket.asked.clear()
    tab.socket.read.clear()
    return tab


@pytest.mark.parametrize("topic", ["phoenix", "room:1"])
async def test_a_new_token_counts_and_the_reply_says_until_when(topic: str) -> None:
    tab = await opened("ada:60", "room:1", "room:2")
    status, reply = await tab.renew("ada:90", topic)
    assert (status, reply["expires_at"]) == ("ok", NOW + 90)
    assert 60 < reply["expires_in"] <= 90
    assert tab.socket.expires_at == NOW + 90
    assert sorted(tab.socket.asked) == ["room:1", "room:2"]
    assert await tab.push("room:1", "echo", {"a": 1}) == ("ok", {"a": 1})
    await tab.client.close()


async def test_the_token_that_counts_is_answered_at_once_and_asks_nobody() -> None:
    tab = await opened("ada:60", "room:1")
    for _ in range(3):
        assert await tab.renewed("ada:60") == NOW + 60
    assert tab.socket.read == tab.socket.asked == []
    await tab.client.close()


async def test_a_hundred_channels_that_bring_the_same_token_ask_once() -> None:
    topics = [f"room:{n}" for n in range(99)]
    tab = await opened("ada:60", *topics)
    answers = await tab.renew_all(*["ada:90"] * 99, topics=topics)
    assert {status for status, _ in answers} == {"ok"}
    assert tab.socket.read == ["ada:90"]
    assert sorted(tab.socket.asked) == sorted(topics)
    await tab.client.close()


async def test_a_token_in_the_payload_of_a_join_counts_before_the_join_does() -> None:
    tab = await opened("ada:60")
    until = {"expires_at": NOW + 90}
    assert await tab.join("room:1", {"access_token": "ada:90"}) == until
    assert await tab.join("room:2", {"access_token": "nonsense"}) == until
    assert await tab.join("room:3", {"access_token": ["ada:99"]}) == until
    assert await tab.join("room:4", {"access_token": "ada:90"}) == until
    assert tab.socket.read == ["ada:90", "nonsense"]
    await tab.client.close()


async def test_the_event_of_a_channel_wins() -> None:
    tab = await opened("ada:60", "own:1")
    assert await tab.renew("ada:90", "own:1") == ("ok", {"mine": "ada:90"})
    assert tab.socket.expires_at == NOW + 60
    await tab.client.close()


@pytest.mark.parametrize(
    "payload",
    [
        {"access_token": "nonsense"},
        {"access_token": ""},
        {"access_token": "ada:9" + "0" * renewal.LONGEST},
        {"access_token": None},
        {"access_token": {"a": 1}},
        {},
        [],
        None,
        "ada:90",
    ],
)
async def test_of_a_bad_token_the_client_is_told_and_stays(payload: Any) -> None:
    tab = await opened("ada:60", "room:1")
    refused = ("error", {"reason": "invalid token"})
    assert await tab.push("phoenix", "access_token", payload) == refused
    assert await tab.push("room:1", "access_token", payload) == refused
    assert refusals[Refusal.INVALID_TOKEN] == 2
    assert tab.socket.expires_at == NOW + 60 and tab.socket.asked == []
    assert await tab.push("room:1", "echo", {"a": 1}) == ("ok", {"a": 1})
    await tab.client.close()


@pytest.mark.parametrize("token", ["boom", "nothing"])
async def test_a_token_that_cannot_be_checked_now_is_not_taken_for_a_bad_one(
    token: str,
) -> None:
    tab = await opened("ada:60", "room:1")
    for _ in range(4):
        assert await tab.renew(token) == ("error", {"reason": "unavailable"})
    assert tab.socket.expires_at == NOW + 60
    assert await tab.renewed("ada:90") == NOW + 90
    await tab.client.close()


async def test_who_sends_three_bad_ones_is_told_that_it_is_of_no_use() -> None:
    tab = await opened("ada:60", "room:1")
    why = {"reason": "invalid token"}
    for n in range(2):
        assert await tab.renew(f"bad{n}") == ("error", why)
    assert await tab.renew("bad2") == ("error", {**why, "permanent": True})
    assert await tab.renewed("ada:90") == NOW + 90
    assert await tab.renew("bad3") == ("error", why)
    await tab.client.close()


async def test_of_two_valid_tokens_the_one_that_ends_later_counts() -> None:
    tab = await opened("ada:60", "room:1")
    assert await tab.renewed("ada:30") == NOW + 60
    assert tab.socket.asked == []
    assert await tab.renewed("ada:") is None
    assert await tab.renewed("ada:99") is None
    assert tab.socket.asked == ["room:1"]
    await tab.client.close()


@pytest.mark.parametrize("token", ["bob:90", ":90"])
async def test_a_token_of_somebody_else_ends_the_connection(token: str) -> None:
    tab = await opened("ada:60", "room:1")
    frame = [None, "9", "phoenix", "access_token", {"access_token": token}]
    await tab.client.send(frame)
    await tab.client.assert_closed(CloseCode.DISCONNECTED)
    assert tab.socket.user.pk == "ada"


async def test_who_may_not_be_there_with_the_new_token_is_sent_away() -> None:
    tab = await opened("ada:60", "room:1")
    tab.socket.is_welcome = False
    assert (await tab.renew("ada:90"))[0] == "ok"
    await tab.joined["room:1"].assert_ended()
    await tab.client.close()


async def test_only_so_many_wait_for_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "MOST_MESSAGES", 3)
    monkeypatch.setattr(RenewedSocket, "slow", 0.05)
    tab = await opened("ada:60")
    same = await tab.renew_all(*["ada:90"] * 5)
    assert [status for status, _ in same] == ["ok"] * 3 + ["error"] * 2
    assert same[4][1] == {"reason": "rate limited", "retry_after": renewal.PAUSE}
    monkeypatch.undo()
    others = await tab.renew_all(*(f"ada:9{n}" for n in range(1, 9)))
    assert [status for status, _ in others] == ["ok"] * 4 + ["error"] * 4
    assert tab.socket.read == [f"ada:9{n}" for n in range(5)]
    await tab.client.close()


async def test_two_checks_begin_a_pause_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    tab = await opened("ada:60")
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(renewal, "PAUSE", 0.2)
    await tab.renew("ada:90")
    started = loop.time()
    await tab.renew("ada:91")
    assert loop.time() - started > 0.15
    await tab.client.close()


async def test_a_client_that_goes_meanwhile_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RenewedSocket, "slow", 0.05)
    tab = await opened("ada:60", "room:1")
    reply = await tab.send("phoenix", "access_token", {"access_token": "ada:90"})
    reply.close()
    connection = tab.socket.__phx__
    assert isinstance(connection, Connection)
    await tab.client.communicator.all_read()
    check = connection.renewal._task
    await tab.client.close()
    assert check is not None
    await check
    assert tab.socket.user.pk == "ada" and "Traceback" not in caplog.text


async def test_sockets_that_take_no_tokens_answer_as_phoenix_does() -> None:
    class PlainSocket(RenewedSocket):
        __phx_takes_tokens__ = False

    tab = await opened("ada:60", "room:1", kind=PlainSocket)
    unmatched = ("error", {"reason": "unmatched topic"})
    assert await tab.renew("ada:90") == unmatched
    assert await tab.renew("ada:90", "nowhere") == unmatched
    unhandled = ("error", {"reason": "unhandled event", "event": "access_token"})
    assert (await tab.renew("ada:90", "room:1"))[0] == unhandled[0]
    await tab.client.close()


async def test_a_topic_that_is_not_joined_takes_no_token() -> None:
    tab = await opened("ada:60")
    assert await tab.renew("ada:90", "room:1") == (
        "error",
        {"reason": "unmatched topic"},
    )
    await tab.client.close()
