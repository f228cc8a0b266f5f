"""Declared types: what a client sends is decoded or refused, what goes out is as declared."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import gc
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from asgiref.sync import sync_to_async
from django.utils.translation import gettext_lazy

from phx_protocol import (
    Channel,
    EncodeError,
    History,
    JoinDenied,
    Socket,
    abroadcast,
    broadcast,
    event,
)
from phx_protocol.exceptions import InvalidPayload
from phx_protocol.socket.payloads import PayloadType
from phx_protocol.socket.payloads.errors import ERRORS, MANY, TEXT
from phx_protocol.testing import TestChannel, connect

handled: list[Any] = []


class Watched(dict[str, Any]):
    """A payload of which one sees when it is freed."""

    __slots__ = ("__weakref__",)


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
async def test_a_payload_that_does_not_fit_gets_its_errors_and_is_not_handled(
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
    answer = {"status": status, "response": response}
    await room.assert_reply(await room.push("reply", answer), status, response or {})


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


async def test_pushes_and_broadcasts_are_checked_against_the_declared_type(
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


async def test_a_broadcast_from_outside_is_checked_against_the_declared_type_too(
    room: TestChannel,
) -> None:
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


# ----------------------------------------------------------- what types can be


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Score(msgspec.Struct):
    by_id: dict[int, str] = {}
    by_level: dict[Level, int] = {}
    by_word: dict[Literal[1, "b"], int] = {}
    by_size: dict[float, int] = {}
    by_day: dict[date, dict[int, int]] = {}


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    day: date
    id: uuid.UUID
    level: Level
    pair: tuple[int, int]
    by_id: dict[int, Decimal]


STRICT = {
    "day": "2026-11-23",
    "id": str(uuid.UUID(int=7)),
    "level": 2,
    "pair": [1, 2],
    "by_id": {"5": "1.50"},
}


class Cat(pydantic.BaseModel):
    lives: int


class Dog(pydantic.BaseModel):
    tricks: list[str]


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


class Cage(msgspec.Struct):
    inside: Cat | None
    before: list[Dog] = []


@dataclasses.dataclass
class Kennel:
    dogs: dict[str, Dog]


T = TypeVar("T")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Boxed(msgspec.Struct, Generic[T]):
    what: T


Positive = Annotated[int, pydantic.Field(gt=0)]
TYPES: list[tuple[Any, Any, Any]] = [
    (dict[int, str], {"1": "a"}, {1: "a"}),
    (dict[Level, int], {"2": 5}, {Level.HIGH: 5}),
    (dict[Literal[1, 2], int], {"2": 5}, {2: 5}),
    (dict[float, int], {"1.5": 5}, {1.5: 5}),
    (list[dict[int, int]], [{"1": 2}], [{1: 2}]),
    (
        Score,
        {
            "by_id": {"1": "a"},
            "by_level": {"1": 1},
            "by_word": {"1": 1, "b": 2},
            "by_size": {"0.5": 1},
            "by_day": {"2026-11-23": {"3": 4}},
        },
        Score(
            {1: "a"},
            {Level.LOW: 1},
            {1: 1, "b": 2},
            {0.5: 1},
            {date(2026, 11, 23): {3: 4}},
        ),
    ),
    (
        Strict,
        STRICT,
        Strict(
            day=date(2026, 11, 23),
            id=uuid.UUID(int=7),
            level=Level.HIGH,
            pair=(1, 2),
            by_id={5: Decimal("1.50")},
        ),
    ),
    (Cat | None, {"lives": 9}, Cat(lives=9)),
    (Cat | Dog, {"tricks": ["sit"]}, Dog(tricks=["sit"])),
    (list[Cat], [{"lives": 9}], [Cat(lives=9)]),
    (dict[str, Cat], {"tom": {"lives": 9}}, {"tom": Cat(lives=9)}),
    (Circle | Square, {"side": 2.0}, Square(2)),
    (list[Circle | Square | None], [None, {"radius": 1.0}], [None, Circle(1)]),
    (Page[Cat], {"items": [{"lives": 1}]}, Page[Cat](items=[Cat(lives=1)])),
    (
        Cage,
        {"inside": {"lives": 1}, "before": [{"tricks": []}]},
        Cage(Cat(lives=1), [Dog(tricks=[])]),
    ),
    (Boxed[Cat], {"what": {"lives": 1}}, Boxed(Cat(lives=1))),
    (Kennel, {"dogs": {"rex": {"tricks": []}}}, Kennel({"rex": Dog(tricks=[])})),
    (Positive, 5, 5),
]


def made(annotation: Any) -> type[Channel]:
    class Typed(Channel):
        pushes = {"news": annotation}

        async def join(self, payload: Any) -> Any:
            return "ok"

        async def check(self, payload: Any) -> Any:
            handled.append(payload)
            await self.push("news", {"news": payload} if payload is None else payload)
            return "ok", payload

        def check_in_thread(self, payload: Any) -> Any:
            return "ok", payload

        for function in (check, check_in_thread):
            function.__annotations__ = {
                "payload": annotation,
                "return": tuple[Literal["ok"], annotation],
            }
        check = event("check")(check)  # type: ignore[assignment]
        check_in_thread = event("check_in_thread")(check_in_thread)

    return Typed


async def asked(
    channel_class: type[Channel], name: str, payload: Any
) -> tuple[TestChannel, str]:
    socket_class = type("TypedSocket", (Socket,), {"channels": {"*": channel_class}})
    channel = await (await connect(socket_class)).join("typed")
    handled.clear()
    return channel, await channel.push(name, payload)


@pytest.mark.parametrize(("annotation", "payload", "decoded"), TYPES, ids=repr)
async def test_a_type_is_read_from_json_and_goes_out_as_json(
    annotation: Any, payload: Any, decoded: Any
) -> None:
    declared = PayloadType.of(annotation)
    assert declared is not None
    declared.verify()
    assert declared.decode(payload) == decoded
    channel, ref = await asked(made(annotation), "check_in_thread", payload)
    await channel.assert_reply(ref, "ok", payload)
    if isinstance(payload, dict):  # what is pushed is a mapping
        ref = await channel.push("check", payload)
        await channel.assert_push("news", payload)
        await channel.assert_reply(ref, "ok", payload)
        assert handled == [decoded]
    await channel.socket.close()


@pytest.mark.parametrize(
    ("annotation", "payload", "path"),
    [
        (dict[int, int], {"a": 1}, "$"),
        (dict[Level, int], {"3": 1}, "$"),
        (Score, {"by_id": {"x": "a"}}, "$.by_id"),
        (Strict, {**STRICT, "level": "2"}, "$.level"),
        (list[Cat], [{"lives": "nine"}], "$[0].lives"),
        (Circle | Square, {}, "$.Circle.radius"),
        (Cage, {"inside": {"lives": "x"}}, "$.inside"),
        (Cat | None, b"bytes", "$"),
        (Positive, 0, "$"),
    ],
    ids=repr,
)
async def test_a_value_that_does_not_fit_such_a_type_is_refused(
    annotation: Any, payload: Any, path: str
) -> None:
    channel, ref = await asked(made(annotation), "check", payload)
    answer = await channel.assert_reply(ref, "error")
    assert answer["reason"] == "invalid payload"
    assert answer["errors"][0]["path"].startswith(path)
    await channel.socket.close()


class Opaque:
    pass


@pytest.mark.parametrize("annotation", [Cat | Score, Opaque, list[Opaque]])
async def test_a_type_that_nobody_can_make_is_a_crash_and_found_by_the_checks(
    annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    declared = PayloadType.of(annotation)
    assert declared is not None
    with pytest.raises(TypeError):
        declared.verify()
    channel_class = made(annotation)
    if annotation == Cat | Score:
        channel, _ = await asked(channel_class, "check", {"lives": 1})
        await channel.assert_ended(crashed=True)
        assert "Typed crashed on 'check'" in caplog.text
        await channel.socket.close()


async def test_an_exception_of_a_decoder_is_a_crash_of_its_event_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(pydantic.BaseModel):
        x: Any

        @pydantic.field_validator("x")
        @classmethod
        def fails(cls, x: Any) -> Any:
            raise ZeroDivisionError(x)

    channel, _ = await asked(made(Broken), "check", {"x": 1})
    await channel.assert_ended(crashed=True)
    assert "ZeroDivisionError" in caplog.text
    again = await channel.socket.join("typed")
    ref = await again.push("unknown", {})
    await again.assert_reply(ref, "error", {"reason": "unhandled event"})
    await channel.socket.close()


# ----------------------------------------------------------- what goes out


class Account(pydantic.BaseModel):
    account_id: int = pydantic.Field(alias="accountId")
    name: str = pydantic.Field(serialization_alias="shownAs")
    secret: str = pydantic.Field(exclude=True)
    joined: date

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def initial(self) -> str:
        return self.name[0]

    @pydantic.field_serializer("joined")
    def _day(self, joined: date) -> int:
        return joined.toordinal()


ANN = Account(accountId=1, name="Ann", secret="s", joined=date(2026, 1, 2))
SENT = {"accountId": 1, "shownAs": "Ann", "initial": "A", "joined": 739618}
BY_NAME = {"account_id": 1, "name": "Ann", "secret": "s", "joined": date(2026, 1, 2)}
GIVEN = {"accountId": 1, "name": "Ann", "secret": "s", "joined": date(2026, 1, 2)}


class Accounts(Channel):
    pushes = {
        "one": Account,
        "several": dict[str, list[Account]],
        "boxed": Boxed[Account],
    }

    async def join(self, payload: Any) -> tuple[Literal["ok"], Account]:
        return "ok", ANN

    @event("answer")
    async def answer(self, payload: Any) -> tuple[Literal["ok"], Account]:
        return "ok", ANN if payload["model"] else GIVEN  # type: ignore[return-value]

    @event("answer in thread")
    def answer_in_thread(self, payload: Any) -> tuple[Literal["ok"], list[Account]]:
        return "ok", [ANN, GIVEN]  # type: ignore[list-item]

    @event("undeclared")
    async def undeclared(self, payload: Any) -> Any:
        return "ok", {"account": ANN}

    @event("push")
    async def pushes_all(self, payload: Any) -> None:
        await self.push("one", ANN)
        await self.push("one", GIVEN)
        await self.broadcast("several", {"all": [ANN]})
        await self.broadcast("boxed", Boxed(ANN))


async def test_a_pydantic_type_is_sent_as_pydantic_serializes_it() -> None:
    channel, ref = await asked(Accounts, "answer", {"model": True})
    assert channel.reply == SENT
    await channel.assert_reply(ref, "ok", SENT)
    await channel.assert_reply(
        await channel.push("answer", {"model": False}), "ok", SENT
    )
    ref = await channel.push("answer in thread", {})
    await channel.assert_reply(ref, "ok", [SENT, SENT])
    ref = await channel.push("undeclared", {})
    await channel.assert_reply(ref, "ok", {"account": SENT})
    await channel.push("push", {})
    for name, payload in (
        ("one", SENT),
        ("one", SENT),
        ("several", {"all": [SENT]}),
        ("boxed", {"what": SENT}),
    ):
        await channel.assert_push(name, payload)
    await channel.socket.close()


@pytest.mark.parametrize("given", [GIVEN, BY_NAME, ANN], ids=["alias", "name", "model"])
def test_a_dict_goes_out_as_its_model_does(given: Any) -> None:
    declared = PayloadType.of(Account)
    assert declared is not None
    assert declared.sent(given, "here") == SENT


def test_sent_payloads_are_checked() -> None:
    declared = PayloadType.of(list[Account])
    assert declared is not None
    wrong = ANN.model_copy(update={"account_id": "one"})
    for payload in ([wrong], [{}], {}, "text", [{**GIVEN, "joined": 1.5}]):
        with pytest.raises(EncodeError, match="^here is not as declared: .") as error:
            declared.sent(payload, "here")
        assert error.value.__cause__ is None
    echoed = [{"accountId": "x" * 100}] * 5_000
    with pytest.raises(EncodeError) as error:
        declared.sent(echoed, "here")
    assert len(str(error.value)) < 3 * ERRORS * TEXT


class Echo(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("echo")
    async def echo(self, payload: Any) -> tuple[Literal["ok"], list[Account]]:
        return "ok", payload["all"]

    @event("parse")
    async def parse(self, payload: Any) -> None:
        pydantic.TypeAdapter(list[Account]).validate_python(payload["all"])


@pytest.mark.parametrize("name", ["echo", "parse"])
async def test_errors_of_a_large_payload_are_logged_in_short(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    large = {"all": [{"accountId": "x" * 30}] * 10_000}
    channel, _ = await asked(Echo, name, large)
    await channel.assert_ended(crashed=True)
    assert f"Echo crashed on '{name}'" in caplog.text
    assert len(caplog.text) < 20_000
    await channel.socket.close()


# ----------------------------------------------------------- how many errors


class Many(pydantic.BaseModel):
    tags: list[str] = []
    rows: list[Cat] = []
    by_key: dict[str, int] = {}


class Closed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


@pytest.mark.parametrize("count", [1, ERRORS, ERRORS + 1, MANY, MANY + 1, 300_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda count: {"tags": [1] * count},
        lambda count: {"rows": [{}] * count},
        lambda count: {"by_key": {f"k{n}": "x" for n in range(count)}},
    ],
    ids=["tags", "rows", "keys"],
)
def test_a_client_gets_some_errors_and_the_number_of_the_others(
    make: Callable[[int], Any], count: int
) -> None:
    declared = PayloadType.of(Many)
    assert declared is not None
    with pytest.raises(InvalidPayload) as invalid:
        declared.decode(make(count))
    assert 1 <= len(invalid.value.errors) <= ERRORS
    assert len(invalid.value.errors) + invalid.value.more == count
    assert invalid.value.errors[0]["path"].startswith("$.")
    assert len(msgspec.json.encode(invalid.value.details)) < 10_000


@pytest.mark.parametrize(
    ("annotation", "payload"),
    [
        (Vote, {"choice": "x" * 1_000_000}),
        (Vote, {"choice": "a - at `$.b`" * 100_000}),
        (Closed, {"x" * 1_000_000: 1}),
        (Closed, {f"{n}": 1 for n in range(100_000)}),
        (Cage, {"inside": {"lives": "x" * 1_000_000}}),
        (Cage, {"before": [{"tricks": [1] * 300_000}]}),
    ],
    ids=["enum", "path", "key", "keys", "custom", "items"],
)
def test_the_text_of_an_error_is_short(annotation: Any, payload: Any) -> None:
    declared = PayloadType.of(annotation)
    assert declared is not None
    with pytest.raises(InvalidPayload) as invalid:
        declared.decode(payload)
    for error in invalid.value.errors:
        assert len(error["path"]) <= TEXT + 3 and len(error["message"]) <= TEXT + 3
    assert invalid.value.__cause__ is invalid.value.__context__ is None
    if annotation is Vote:
        assert invalid.value.errors[0]["path"] == "$.choice"


def test_a_large_payload_that_does_not_fit_costs_less_than_one_that_does() -> None:
    declared = PayloadType.of(Many)
    assert declared is not None

    def took(payload: Any) -> float:
        started = time.thread_time()
        try:
            declared.decode(payload)
        except InvalidPayload:
            pass
        return time.thread_time() - started

    right = {"rows": [{"lives": 1}] * 100_000}
    for wrong in (
        {"rows": [{"life": 1}] * 100_000},
        {"tags": [1] * 500_000},
        {"by_key": {f"{n}": "x" for n in range(80_000)}},
    ):
        took(wrong)  # makes the validator
        assert min(took(wrong) for _ in range(3)) < 3 * took(right)


async def test_the_answer_says_how_many_more() -> None:
    channel, ref = await asked(made(list[Positive]), "check", [0] * 50)
    answer = await channel.assert_reply(ref, "error")
    assert len(answer["errors"]) == ERRORS and answer["more_errors"] == 50 - ERRORS
    ref = await channel.push("check", [0] * 2)
    answer = await channel.assert_reply(ref, "error")
    assert len(answer["errors"]) == 2 and "more_errors" not in answer
    await channel.socket.close()


# ----------------------------------------------------------- what history.js adds


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""


class Kept(Channel):
    history = History(size=5)

    async def join(self, payload: Named) -> Any:
        handled.append(payload)
        return "ok"


class Raw(Kept):
    async def join(self, payload: Any) -> Any:
        handled.append(payload)
        return "ok"


class Unkept(Kept):
    history = None


class KeptSocket(Socket):
    channels = {"kept": Kept, "raw": Raw, "unkept": Unkept}


@pytest.mark.parametrize("claim", [None, {"offset": None, "senders": []}])
async def test_a_claim_of_history_is_taken_off_before_a_join_is_checked(
    claim: Any,
) -> None:
    socket = await connect(KeptSocket)
    handled.clear()
    payload = {"name": "ann", **({} if claim is None else {"history": claim})}
    for topic in ("kept", "raw", "unkept"):
        reply = (await socket.join(topic, payload)).reply
        assert ("history" in reply) is (topic != "unkept")
    assert handled == [Named("ann"), {"name": "ann"}, Named("ann")]
    with pytest.raises(JoinDenied):
        await socket.join("unkept", {"history": "a field of somebody else's"})
    await socket.close()


@pytest.mark.parametrize("kind", [Order, Message, Vote])
@pytest.mark.parametrize("size", [1, 2 * MANY, 50_000])
def test_a_payload_that_is_refused_is_freed_at_once(kind: Any, size: int) -> None:
    """It may be large, and the garbage collector may not come by for long."""
    payload = Watched({"item": [[]] * size, "count": "no", "tags": [[]] * size})
    seen = weakref.ref(payload)
    gc.disable()
    try:
        PayloadType.of(kind).decode(payload)  # type: ignore[union-attr]
    except InvalidPayload:
        pass
    finally:
        gc.enable()
    del payload
    assert seen() is None
