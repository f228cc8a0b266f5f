"""Text of clients costs little to print, adds no line, and moves no cursor."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
import pydantic
import pytest
from channels.testing import WebsocketCommunicator

from phx_protocol import (
    Channel,
    PhoenixConsumer,
    Reason,
    Socket,
    abroadcast,
    event,
    signals,
)
from phx_protocol.logs import get_logger
from phx_protocol.logs import loggers as logs
from phx_protocol.logs.printable import (
    ITEMS,
    LENGTH,
    bounded,
    message_of,
    printable,
    shown,
    traceback_of,
)

FORGED = "2026-12-01 CRITICAL forged"
#: what ends a line or obeys a terminal, each before a line that was never logged
HOSTILE = [
    *("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"),
    *("\x1b[2J\x1b[H", "\x9b2J", "\x00", "\x08" * 30, "\x7f", "\u202e", "\u2066"),
]
#: all of them at once
EVERYTHING = "".join(f"{text}{FORGED}" for text in HOSTILE)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclasses.dataclass
class Point:
    x: int
    secret: str = dataclasses.field(repr=False, default="hidden")


class Move(msgspec.Struct):
    to: Any


class Order(pydantic.BaseModel):
    item: str


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "\U000e0001", "\ufeff"])
def test_a_text_is_printed_on_one_line(text: str) -> None:
    for out in (printable(f"room:{text}x"), shown({text: [text]}), shown(text)):
        assert out.isprintable()
    assert printable(f"room:{text}x").startswith("room:\\")


def test_printable_text_stays_as_it_is() -> None:
    for text in ("room:lobby", "Grüße, 世界 👋", 'a "b" \\n', ""):
        assert printable(text) == text
    assert shown({"a": [1, 2.5, None, True], "b": "c"}) == (
        "{'a': [1, 2.5, None, True], 'b': 'c'}"
    )
    assert shown(Move(Point(1))) == "Move(to=Point(x=1))"
    assert shown(Order(item="tea")) == "Order(item='tea')"
    assert shown(ValueError("no")) == "ValueError('no')"


def test_texts_are_cut() -> None:
    assert printable("x" * 10_000, 10) == "x" * 10 + "..."
    assert printable("x" * 10_000, None) == "x" * 10_000
    assert len(shown(["x" * LENGTH] * ITEMS)) <= LENGTH + 3


def deep(levels: int, make: Callable[[Any], Any]) -> Any:
    value: Any = "the innermost"
    for _ in range(levels):
        value = make(value)
    return value


def looped() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value",
    [
        deep(5_000, lambda inner: [inner]),
        deep(5_000, lambda inner: {"a": inner}),
        deep(5_000, Move),
        looped(),
        Unprintable(),
        [Unprintable()],
        {"a": Unprintable()},
        10**10_000,
        {10**10_000: -(10**10_000)},
        {(1, 2): "a tuple", frozenset({1}): "a set"},
        b"\x00\xff" * 10_000,
        memoryview(b"abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_can_be_shown(value: Any) -> None:
    assert 0 < len(shown(value)) <= LENGTH + 3
    assert "the innermost" not in shown(value)
    assert len(repr(bounded(value))) < 100 * LENGTH


def test_showing_a_large_value_costs_no_more_than_the_shown_part() -> None:
    large = {f"key {n}": ["x"] * 10 for n in range(200_000)}
    large["last"] = {"text": ["x" * 10_000_000], "list": ["x"] * 1_000_000}
    started = time.thread_time()
    repr(large)
    whole = time.thread_time() - started
    started = time.thread_time()
    for _ in range(10):
        shown(large), shown(large["last"]), shown([large])
    assert time.thread_time() - started < whole


def test_a_filtered_copy_has_no_value_under_a_shortened_key() -> None:
    copied = bounded({"x" * LENGTH + "password": "secret", "ok": 1})
    assert "secret" not in repr(copied)
    assert copied["ok"] == 1


def test_a_traceback_reads_as_python_writes_it() -> None:
    try:
        try:
            raise KeyError("a\nb")
        except KeyError as error:
            raise ValueError(f"for nobody{EVERYTHING}") from error
    except ValueError as error:
        error.add_note(EVERYTHING)
        text = traceback_of(error)
    assert text.startswith("Traceback (most recent call last):\n  File ")
    assert "KeyError: 'a\\nb'\n\nThe above exception was the direct cause" in text
    assert "\nValueError: for nobody\\n2026" in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert not any(line.startswith(FORGED) for line in text.split("\n"))


def test_the_exceptions_of_a_group_are_written_too() -> None:
    inner = [ValueError("one\ntwo"), KeyError("three")]
    text = traceback_of(ExceptionGroup("several", inner))
    assert "  | ValueError: one\\ntwo\n  | KeyError: 'three'" in text


def test_large_arguments_of_an_exception_are_not_written_as_a_whole() -> None:
    large = ["x" * 100] * 100_000
    for error in (ValueError(large), KeyError(large), Exception(large, large)):
        assert len(message_of(error)) < 2 * LENGTH
        assert len(traceback_of(error)) < 5 * LENGTH


def test_of_many_errors_of_pydantic_their_number_is_written() -> None:
    with pytest.raises(pydantic.ValidationError) as few:
        Order.model_validate({"item": 1})
    assert "Input should be a valid string" in message_of(few.value)
    with pytest.raises(pydantic.ValidationError) as many:
        pydantic.TypeAdapter(list[Order]).validate_python([1] * 10_000)
    assert message_of(many.value) == "10000 errors in list[Order]"


# ------------------------------------------------------------------ the log


class Lines(logging.Handler):
    """The output that an operator reads, and errors while it is written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.texts: list[str] = []
        self.broken: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.texts.append(self.format(record))
        except Exception:
            self.broken.append(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self.broken.append(record)

    def check(self) -> None:
        """Nobody but us wrote a line, and nothing obeys it."""
        assert not self.broken
        for text in self.texts:
            for line in text.split("\n"):
                assert line.isprintable(), text
                assert not line.lstrip().startswith(FORGED), text


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("phx_protocol")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class Thing:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Hostel(Channel):
    """Every error quotes the client."""

    intercepts = {"out"}

    async def join(self, payload: Any) -> Any:
        how = payload.get("join", "ok")
        if how == "crash":
            raise ValueError(payload["text"])
        if how == "strange":
            return payload["text"], payload
        return how

    async def after_join(self) -> None:
        await self.subscribe("further")

    async def handle_out(self, event: str, payload: Any) -> None:
        raise RuntimeError(payload["text"])

    async def terminate(self, reason: Reason) -> None:
        raise LookupError(self.topic)

    @event("crash")
    async def crash(self, payload: Any) -> None:
        try:
            raise KeyError(payload)
        except KeyError as error:
            raise Exception(payload["text"], payload) from error

    @event("reply")
    async def strange(self, payload: Any) -> Any:
        return {"text": payload}

    @event("stop")
    async def stops(self, payload: Any) -> None:
        await self.stop(payload["text"])

    @event("out")
    async def out(self, payload: Any) -> None:
        await self.broadcast("out", payload)

    @event("info")
    async def info(self, payload: Any) -> None:
        for message in (payload, payload["text"], Thing(payload["text"]), Unprintable):
            self.send_info(message)

    @event("further")
    async def tell(self, payload: Any) -> Any:
        await abroadcast("further", payload["text"], payload)
        return "ok"

    @event("typed")
    async def typed(self, payload: Any) -> tuple[str, Move] | None:
        return payload["text"], payload

    @event("encode")
    async def encode(self, payload: Any) -> Any:
        return "ok", {"text": Thing(payload["text"])}


class HostelSocket(Socket):
    channels = {"*": Hostel}
    transport_log = "WARNING"
    max_event_length = max_topic_length = 4_000
    max_ref_length = 1_000

    async def connect(self, params: dict[str, Any]) -> None:
        if "crash" in params:
            raise ValueError(params["crash"])

    def id(self) -> str | None:
        return "a name"


async def client(
    path: str = "/socket/websocket",
    headers: dict[str, str] | None = None,
    **params: str,
) -> WebsocketCommunicator:
    query = urlencode({"vsn": "2.0.0", **params}, errors="surrogatepass")
    sent = [(k.encode(), v.encode("utf-8")) for k, v in (headers or {}).items()]
    application = PhoenixConsumer.as_asgi(socket=HostelSocket)
    communicator = WebsocketCommunicator(application, f"/socket?{query}", headers=sent)
    communicator.scope["path"] = path
    await communicator.connect(5)
    return communicator


async def exchange(communicator: WebsocketCommunicator, *frames: Any) -> None:
    """Send frames, and wait until each has been handled."""
    for frame in frames:
        await communicator.send_to(text_data=json.dumps(frame))
        await communicator.receive_from(5)


EVENTS = ["crash", "reply", "stop", "out", "typed", "encode", "info", "further", "none"]


@pytest.mark.parametrize("text", [*HOSTILE, EVERYTHING], ids=ascii)
async def test_no_client_writes_a_line_of_its_own(lines: Lines, text: str) -> None:
    evil = f"{text}{FORGED}"
    topic, payload = f"room:{evil}", {evil: [evil], "text": evil}
    others = [
        {"path": f"/socket/{evil}", "vsn": "9"},
        {"path": f"/socket/{evil}", "vsn": evil},
        {"path": f"/socket/{evil}", "headers": {"origin": evil}},
        {"path": f"/socket/{evil}", "headers": {"origin": f"https://{evil}"}},
        {"path": f"/socket/{evil}", "crash": evil},
        {"path": f"/socket/{evil}", "headers": {"user-agent": evil}, evil: evil},
        {"path": f"/socket/{evil}", f"{evil}[{evil}][]": evil},
    ]
    for other in others:
        logs._repeats._written.clear()
        await (await client(**other)).disconnect()  # type: ignore[arg-type]
    for name in EVENTS:
        logs._repeats._written.clear()
        one = await client()
        await exchange(one, ["1", "1", topic, "phx_join", payload])
        event = evil if name == "none" else name
        await one.send_to(text_data=json.dumps(["1", evil, topic, event, payload]))
        await one.send_to(text_data=json.dumps([None, "9", topic, "phx_leave", {}]))
        await one.receive_from(5)
        await one.disconnect()
    logs._repeats._written.clear()
    one = await client()
    for how in ("crash", "error", "strange"):
        sent = {**payload, "join": how}
        await exchange(one, [evil, evil, f"{topic}{how}", "phx_join", sent])
    await exchange(one, ["1", "2", [evil], "phx_join", payload])
    await exchange(one, ["1", "2", "x" * 5_000 + evil, evil, payload])
    await exchange(one, ["1", evil + "x" * 1_000, topic, evil, payload])
    await exchange(one, ["1", "2", topic, {evil: evil}, payload])
    await one.send_to(text_data=f'["1","2","{topic}"]')
    await one.receive_output(5)
    assert len(lines.texts) > 30
    lines.check()


async def test_lines_of_our_own_stay_as_they_are(lines: Lines) -> None:
    one = await client(name="ann")
    await exchange(one, ["1", "1", "room:1", "phx_join", {"a": 1, "password": "b"}])
    await one.disconnect()
    connected = next(text for text in lines.texts if "CONNECTED TO" in text)
    assert [line.strip() for line in connected.split("\n")][1:] == [
        "Transport: websocket",
        "Serializer: V2JSONSerializer",
        "Parameters: {'vsn': '2.0.0', 'name': 'ann'}",
    ]
    joined = next(text for text in lines.texts if "JOINED room:1 in" in text)
    assert "Parameters: {'a': 1, 'password': '[FILTERED]'}" in joined


@pytest.mark.parametrize(
    "payload",
    [
        deep(600, lambda inner: [inner]),
        deep(300, lambda inner: {"a": [inner]}),
        {"many": {str(n): n for n in range(50_000)}},
        {"large": "x" * 1_000_000},
        {"password": deep(600, lambda inner: [inner])},
        {"n": 10**19},
    ],
    ids=["lists", "dicts", "keys", "text", "hidden", "int"],
)
async def test_a_payload_is_logged_in_short_and_handled(
    lines: Lines, payload: Any
) -> None:
    one = await client()
    sent = payload if isinstance(payload, dict) else {"deep": payload}
    await exchange(one, ["1", "1", "room:1", "phx_join", sent])
    await exchange(one, ["1", "2", "room:1", "none", sent])
    await exchange(one, ["1", "3", "room:1", "further", {"text": "x", **sent}])
    await exchange(one, [None, "4", "room:1", "phx_leave", {}])
    await one.disconnect()
    assert any("JOINED" in text for text in lines.texts)
    assert sum("HANDLED none" in text for text in lines.texts) == 1
    assert max(map(len, lines.texts)) < 5_000
    lines.check()


async def test_an_unhandled_message_is_logged_without_secrets(lines: Lines) -> None:
    class Secret(Hostel):
        @event("send")
        async def send(self, payload: Any) -> Any:
            for message in (
                payload,
                Move(payload),
                [payload],
                ("password=swordfish",),
                b"swordfish",
                Thing("swordfish"),
            ):
                self.send_info(message)
            await self.subscribe("elsewhere")
            await abroadcast("elsewhere", "shouted", payload)
            await abroadcast("elsewhere", "binary", b"swordfish")
            return "ok"

    class SecretSocket(Socket):
        channels = {"*": Secret}

    application = PhoenixConsumer.as_asgi(socket=SecretSocket)
    one = WebsocketCommunicator(application, "/socket?vsn=2.0.0")
    await one.connect()
    await exchange(one, ["1", "1", "room:1", "phx_join", {}])
    secret = {"password": "swordfish", "user": "ann"}
    await exchange(one, ["1", "2", "room:1", "send", secret])
    await exchange(one, ["1", "3", "room:1", "phx_leave", {}])
    await one.disconnect()
    unhandled = [text for text in lines.texts if "unhandled message" in text]
    assert len(unhandled) == 8
    assert sum("'user': 'ann'" in text for text in unhandled) == 4
    assert any("shouted" in text for text in unhandled)
    assert not any("swordfish" in text for text in lines.texts)


async def test_the_error_of_a_receiver_is_logged_printable(lines: Lines) -> None:
    def fails(channel: Channel, **named: Any) -> None:
        raise LookupError(channel.topic)

    receivers = fails, functools.partial(fails)
    for receiver in receivers:
        signals.channel_joined.connect(receiver, sender=Hostel)
    topic = f"room:{EVERYTHING}"
    try:
        one = await client()
        await exchange(one, ["1", "1", topic, "phx_join", {}])
        await one.disconnect()
    finally:
        for receiver in receivers:
            signals.channel_joined.disconnect(receiver, sender=Hostel)
    assert sum("LookupError: room:" in text for text in lines.texts) >= 2
    lines.check()


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the disk is full")


async def test_a_log_that_fails_harms_nobody() -> None:
    ended: asyncio.Event = asyncio.Event()

    class Guest(Channel):
        log_handle_in = logging.INFO

        async def join(self, payload: Any) -> Any:
            return payload["status"]

        async def terminate(self, reason: Reason) -> None:
            ended.set()

        @event("echo")
        async def echo(self, payload: Any) -> Any:
            return "ok", payload

    class GuestSocket(Socket):
        channels = {"*": Guest}

    handler, logger = Broken(logging.INFO), logging.getLogger("phx_protocol")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        application = PhoenixConsumer.as_asgi(socket=GuestSocket)
        one = WebsocketCommunicator(application, "/socket?vsn=2.0.0")
        assert (await one.connect())[0]
        await exchange(one, ["1", "1", "room:1", "phx_join", {"status": "error"}])
        await asyncio.wait_for(ended.wait(), 5)
        await exchange(one, ["2", "2", "room:2", "phx_join", {"status": "ok"}])
        await one.send_to(text_data='["2","3","room:2","echo",{"a":1}]')
        await one.send_to(text_data='["2","4","room:2","echo",{"a":2}]')
        for n in (1, 2):
            assert f'"response":{{"a":{n}}}' in await one.receive_from(5)
        await one.disconnect()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_arguments_that_are_numbers_stay_numbers(lines: Lines) -> None:
    get_logger("phx_protocol.socket").info("%d of %.1f, %5d", 1, 2.25, True)
    get_logger("phx_protocol.socket").info("%(a)s and %(a)r", {"a": "b\n"})
    get_logger("phx_protocol.socket").info("%s %s", uuid.UUID(int=7), [1, (2,)])
    get_logger("phx_protocol.socket").info("%s %r", Reason.LEFT, Reason.LEFT)
    assert lines.texts == [
        "INFO phx_protocol.socket: 1 of 2.2,     1",
        "INFO phx_protocol.socket: b\\n and 'b\\n'",
        "INFO phx_protocol.socket: 00000000-0000-0000-0000-000000000007 [1, [2]]",
        "INFO phx_protocol.socket: left <Reason.LEFT: 'left'>",
    ]
