"""Declared types: what a client sends is decoded or refused, what goes out is as declared."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import date
from typing import Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from asgiref.sync import sync_to_async
from django.utils.translation import gettext_lazy

from phx_protocol import (
    Channel,
    EncodeError,
    JoinDenied,
    Socket,
    abroadcast,
    broadcast,
    event,
)
from phx_protocol.payloads import PayloadType, Replies
from phx_protocol.testing import TestChannel, connect

handled: list[Any] = []


class Message(msgspec.Struct):
    body: str
    tags: list[str] = []


@dataclasses.dataclass
class Move:
    x: int
    y: int
    on: date


class Vote(TypedDict):
    choice: Literal["yes", "no"]


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(gt=0)


class Saved(msgspec.Struct):
    id: int


class Entry(TypedDict, total=False):
    name: str


class RoomChannel(Channel):
    pushes = {"said": Message, "ordered": Order, "anything": dict}

    async def join(self, payload: Entry) -> tuple[Literal["ok"], Saved]:
        handled.append(payload)
        return "ok", Saved(id=7)

    @event("say")
    async def say(self, payload: Message) -> Any:
        handled.append(payload)
        return "ok"

    @event("move")
    async def move(self, payload: Move) -> Any:
        handled.append(payload)
        return "ok", payload

    @event("vote")
    def vote(self, payload: Vote) -> Any:
        handled.append(payload)
        return "ok"

    @event("order")
    async def order(self, payload: Order) -> Any:
        handled.append(payload)
        return "ok", payload

    @event("later")
    async def later(self, payload: DeclaredFurtherDown) -> Any:
        return "ok", payload.n

    @event("reply")
    async def reply_as_told(
        self, payload: Any
    ) -> (
        tuple[Literal["ok"], Saved] | Literal["nothing"] | tuple[Literal["error"], Vote]
    ):
        answer: Any = payload["status"], payload["response"]
        return answer if payload["response"] is not None else payload["status"]

    @event("push")
    async def push_it(self, payload: Any) -> Any:
        try:
            await self.push(payload["event"], payload["payload"])
        except EncodeError as error:
            return "error", {"said": str(error)}
        return "ok"

    @event("broadcast")
    async def broadcast_it(self, payload: Any) -> Any:
        try:
            await self.broadcast("said", payload)
            await self.broadcast_from("said", payload)
        except EncodeError as error:
            return "error", {"said": str(error)}
        return "ok"


class DeclaredFurtherDown(msgspec.Struct):
    n: int


class RoomSocket(Socket):
    channels = {"typed:*": RoomChannel}


@pytest.fixture
async def room() -> AsyncIterator[TestChannel]:
    socket = await connect(RoomSocket)
    channel = await socket.join("typed:1")
    handled.clear()
    yield channel
    await socket.close()


@pytest.mark.parametrize(
    ("name", "payload", "decoded"),
    [
        ("say", {"body": "hi", "more": 1}, Message("hi")),
        ("move", {"x": 1, "y": 2, "on": "2026-11-23"}, Move(1, 2, date(2026, 11, 23))),
        ("vote", {"choice": "yes"}, {"choice": "yes"}),
        ("order", {"item": "tea", "count": 2}, Order(item="tea", count=2)),
    ],
)
async def test_a_payload_reaches_the_handler_as_it_is_declared(
    room: TestChannel, name: str, payload: Any, decoded: Any
) -> None:
    await room.assert_reply(await room.push(name, payload), "ok")
    assert handled == [decoded]
    assert type(handled[0]) is type(decoded)


@pytest.mark.parametrize(
    ("name", "payload", "paths"),
    [
        ("say", {"body": 1}, ["$.body"]),
        ("say", {"body": "hi", "tags": ["a", 2]}, ["$.tags[1]"]),
        ("say", {}, ["$"]),
        ("say", [], ["$"]),
        ("say", b"binary", ["$"]),
        ("move", {"x": 1, "y": 2, "on": "soon"}, ["$.on"]),
        ("vote", {"choice": "maybe"}, ["$.choice"]),
        ("order", {"item": 1, "count": 0}, ["$.item", "$.count"]),
    ],
)
async def test_what_does_not_fit_is_answered_with_where_and_not_handled(
    room: TestChannel, name: str, payload: Any, paths: list[str]
) -> None:
    answer = await room.assert_reply(await room.push(name, payload), "error")
    assert answer["reason"] == "invalid payload"
    assert [error["path"] for error in answer["errors"]] == paths
    assert all(error["message"] for error in answer["errors"])
    assert handled == []
    await room.assert_reply(await room.push("say", {"body": "still here"}), "ok")


async def test_a_type_may_be_declared_further_down_than_its_handler(
    room: TestChannel,
) -> None:
    await room.assert_reply(await room.push("later", {"n": 3}), "ok", 3)
    await room.assert_reply(await room.push("later", {"n": "3"}), "error")


async def test_the_payload_of_a_join_is_checked_before_join_is_called() -> None:
    socket = await connect(RoomSocket)
    with pytest.raises(JoinDenied) as denied:
        await socket.join("typed:1", {"name": 5})
    assert denied.value.reply["reason"] == "invalid payload"
    assert denied.value.reply["errors"][0]["path"] == "$.name"
    assert {"name": 5} not in handled
    channel = await socket.join("typed:1", {"name": "ann"})
    assert channel.reply == {"id": 7}
    await socket.close()


@pytest.mark.parametrize(
    ("status", "response"),
    [("ok", {"id": 1}), ("nothing", None), ("error", {"choice": "no"})],
)
async def test_a_reply_that_is_as_declared_goes_out(
    room: TestChannel, status: str, response: Any
) -> None:
    told = {"status": status, "response": response}
    await room.assert_reply(await room.push("reply", told), status, response or {})


@pytest.mark.parametrize(
    ("status", "response", "said"),
    [
        ("ok", {"id": "one"}, "reply_as_told is not as declared: $.id: Expected `int`"),
        ("ok", None, "reply_as_told is not as declared: $"),
        ("error", {"choice": "maybe"}, "$.choice"),
        ("other", {}, "the status 'other'"),
    ],
)
async def test_a_reply_that_is_not_as_declared_is_a_crash_that_says_so(
    room: TestChannel,
    caplog: pytest.LogCaptureFixture,
    status: str,
    response: Any,
    said: str,
) -> None:
    await room.push("reply", {"status": status, "response": response})
    await room.assert_ended(crashed=True)
    assert said in caplog.text


async def test_a_push_and_a_broadcast_are_held_to_what_is_declared(
    room: TestChannel,
) -> None:
    for name, payload in (
        ("said", {"body": "hi"}),
        ("anything", {"x": 1}),
        ("other", {}),
    ):
        ref = await room.push("push", {"event": name, "payload": payload})
        await room.assert_reply(ref, "ok")
        await room.assert_push(name, payload)
    ref = await room.push("push", {"event": "said", "payload": {"body": None}})
    answer = await room.assert_reply(ref, "error")
    assert answer["said"].startswith(
        "RoomChannel.pushes['said'] is not as declared: $.body"
    )
    await room.assert_reply(await room.push("broadcast", {"body": "all"}), "ok")
    await room.assert_reply(await room.push("broadcast", {"text": "all"}), "error")


async def test_a_broadcast_from_anywhere_is_held_to_it_too(room: TestChannel) -> None:
    await abroadcast("typed:1", "said", Message("hello"))
    await room.assert_push("said", {"body": "hello", "tags": []})
    await abroadcast("typed:1", "said", {"body": gettext_lazy("hello")})
    await room.assert_push("said", {"body": "hello"})
    await abroadcast("typed:1", "ordered", Order(item="tea", count=1))
    await room.assert_push("ordered", {"item": "tea", "count": 1})
    with pytest.raises(EncodeError, match=r"\$\.body"):
        await abroadcast("typed:1", "said", Message(body=1))  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match=r"\$\.count"):
        await sync_to_async(broadcast)("typed:1", "ordered", {"item": "a", "count": 0})
    await abroadcast("nobody:1", "said", {"whatever": 1})
    await asyncio.sleep(0)


@pytest.mark.parametrize("annotation", [Any, dict, dict[str, Any], bytes, object])
def test_what_says_nothing_declares_nothing(annotation: Any) -> None:
    assert PayloadType.of(annotation) is None
    assert Replies.of(tuple[str, annotation]) is None


def test_statuses_and_their_types_are_read_from_the_return_annotation() -> None:
    replies = Replies.of(
        tuple[Literal["ok", "fine"], Saved] | tuple[str, Vote] | Literal["none"] | None
    )
    assert replies is not None
    declared = {k: v and v.annotation for k, v in replies.declared.items()}
    assert declared == {"ok": Saved, "fine": Saved, "*": Vote, "none": None}
    assert Replies.of(str | None) is None
