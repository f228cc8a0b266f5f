"""Callbacks: what happens before one is called, and how it is called whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from django.db import transaction

from phx_protocol import (
    Channel,
    ConnectionRefused,
    JoinDenied,
    Presence,
    Socket,
    abroadcast,
    adisconnect,
)
from phx_protocol.concurrency import callbacks
from phx_protocol.testing import connect


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which somebody looked for stale connections."""
    looks: list[threading.Thread] = []
    monkeypatch.setattr(callbacks, "thread_sensitive", False)
    monkeypatch.setattr(callbacks, "_closed_at", 0.0)
    monkeypatch.setattr(
        callbacks,
        "close_old_connections",
        lambda: looks.append(threading.current_thread()),
    )
    return looks


async def test_a_query_runs_after_the_search_for_stale_connections(
    looks: list[threading.Thread],
) -> None:
    callbacks.close_stale_connections_if_due()
    # as every call of Django's async ORM does
    assert await sync_to_async(lambda: list(looks))() == looks != []
    assert looks == [await sync_to_async(threading.current_thread)()]


async def test_the_look_is_one_a_second_and_one_after_a_crash(
    looks: list[threading.Thread],
) -> None:
    for _ in range(3):
        callbacks.close_stale_connections_if_due()
    assert await sync_to_async(lambda: len(looks))() == 1
    callbacks.close_stale_connections()
    assert await sync_to_async(lambda: len(looks))() == 2


async def test_the_last_look_comes_when_no_callback_runs_any_more(
    looks: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = iter([True, True, False]), asyncio.Event()

    def is_busy() -> bool:
        busy = next(answers)
        if not busy:
            asked.set()
        return busy

    monkeypatch.setattr(callbacks, "STALE_AFTER", 0.01)
    monkeypatch.setattr(callbacks, "is_busy", is_busy)
    callbacks.close_stale_connections_if_due()
    await asked.wait()
    assert await sync_to_async(lambda: len(looks))() == 2


async def test_no_look_is_missed_when_the_process_ends(
    looks: list[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its threads take no work any more, and its connections end with it."""
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    monkeypatch.setattr(SyncToAsync, "single_thread_executor", ended)
    monkeypatch.setattr(callbacks, "STALE_AFTER", 0.01)
    callbacks.close_stale_connections_if_due()
    while asyncio.get_running_loop() in callbacks._timers:
        await asyncio.sleep(0.01)
    assert looks == [] and "Exception in callback" not in caplog.text


async def test_a_look_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("no database")

    monkeypatch.setattr(callbacks, "thread_sensitive", False)
    monkeypatch.setattr(callbacks, "close_old_connections", fail)
    callbacks.close_stale_connections()
    await sync_to_async(lambda: None)()
    assert "stale database connections cannot be closed" in caplog.text
    assert "no database" in caplog.text


# ------------------------------------------------- whatever a callback is made of

pytestmark = pytest.mark.django_db(transaction=True)
seen: list[Any] = []


def wrapped(function: Any) -> Any:
    """A decorator that knows nothing of async."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def forgetful(function: Any) -> Any:
    """A decorator that is async and does not await."""

    async def call(*args: Any) -> Any:
        return function(*args)

    return call


class Object:
    """A callable that is no function, and does not bind itself."""

    def __init__(self, function: Any) -> None:
        self.function = function

    async def __call__(self, *args: Any) -> Any:
        return await self.function(*args)


class SyncObject(Object):
    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def of_thread(function: Any) -> Any:
    """`function`, an ``async def``, as code of a thread."""

    def call(*args: Any) -> Any:
        return async_to_sync(function)(*args)

    return call


KINDS: dict[str, Callable[[Any], Any]] = {
    "async def": lambda f: f,
    "def": of_thread,
    "wrapped": wrapped,
    "wrapped twice": lambda f: wrapped(wrapped(f)),
    "database_sync_to_async": lambda f: database_sync_to_async(of_thread(f)),
    "sync_to_async": lambda f: sync_to_async(of_thread(f), thread_sensitive=False),
    "wrapped database_sync_to_async": lambda f: wrapped(
        database_sync_to_async(of_thread(f))
    ),
    "object": Object,
    "sync object": SyncObject,
    "object behind a wrapper": lambda f: wrapped(Object(f)),
    "partial": functools.partial,
    "partialmethod": functools.partialmethod,
    "async_to_sync": lambda f: async_to_sync(f),
    "transaction.atomic": lambda f: transaction.atomic(of_thread(f)),
    "transaction.atomic around async": transaction.atomic,
}


def made_of(kind: str, namespace: dict[str, Any], base: type) -> Any:
    """A subclass of `base` whose methods are of a kind."""
    made = {
        n: KINDS[kind](f) if inspect.isfunction(f) else f for n, f in namespace.items()
    }
    return type("Made", (base,), made)


def channel_callbacks() -> dict[str, Any]:
    async def authorize(self: Any) -> Any:
        return self.topic != "room:forbidden"

    async def join(self: Any, payload: Any) -> Any:
        return "ok", {"topic": self.topic}

    async def after_join(self: Any) -> None:
        await self.push("hello", {})

    async def handle_in(self: Any, event: str, payload: Any) -> Any:
        if event == "info":
            self.send_info("m")
        return "ok", {"event": event}

    async def handle_out(self: Any, event: str, payload: Any) -> None:
        await self.push(event, {"out": self.topic})

    async def handle_info(self: Any, message: Any) -> None:
        await self.push("info", {"message": message})

    async def terminate(self: Any, reason: Any) -> None:
        seen.append((self.topic, reason))

    return {**locals(), "intercepts": {"news"}}


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_a_callback_of_a_channel_is_made_of_it_runs(kind: str) -> None:
    made = made_of(kind, channel_callbacks(), Channel)
    seen.clear()
    socket = await connect(type("Rooms", (Socket,), {"channels": {"room:*": made}}))
    with pytest.raises(JoinDenied, match="unauthorized"):
        await socket.join("room:forbidden")
    room = await socket.join("room:1")
    await room.assert_push("hello")
    await room.assert_reply(await room.push("any"), "ok", {"event": "any"})
    await abroadcast("room:1", "news", {})
    await room.assert_push("news", {"out": "room:1"})
    await room.push("info")
    await room.assert_push("info", {"message": "m"})
    await room.leave()
    await socket.close()
    assert seen == [("room:1", "left")]


@pytest.mark.parametrize("kind", [*KINDS, "forgetful"])
async def test_a_refused_client_stays_out_whatever_kind_of_callable_connect_is(
    kind: str,
) -> None:
    async def connect_(self: Any, params: Any) -> None:
        await asyncio.sleep(0)
        if "secret" not in params:
            raise ConnectionRefused(403)

    make = KINDS.get(kind, forgetful)
    made = type("Made", (Socket,), {"connect": make(connect_)})
    with pytest.raises(ConnectionRefused) as refused:
        await connect(made)
    assert refused.value.status == 403
    await (await connect(made, {"secret": "1"})).close()


async def no_async_generator(self: Any, *args: Any) -> Any:
    yield


def no_generator(self: Any, *args: Any) -> Any:
    yield


async def of_five(self: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
    pass


@pytest.mark.parametrize(
    "base, name",
    [
        (Socket, "connect"),
        (Presence, "fetch"),
        *((Channel, name) for name in channel_callbacks() if name != "intercepts"),
    ],
)
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "text",
        no_generator,
        no_async_generator,
        staticmethod(lambda: None),
        property(lambda self: None),
        lambda: None,
        lambda self, *args, word: None,
        of_five,
    ],
)
def test_a_callback_that_cannot_be_called_raises_an_error_when_the_class_is_made(
    base: type, name: str, wrong: Any
) -> None:
    if isinstance(wrong, staticmethod) and name in ("authorize", "after_join"):
        return  # which takes nothing
    with pytest.raises(TypeError, match=f"Made.{name}"):
        type("Made", (base,), {name: wrong})


@pytest.mark.parametrize(
    "answer",
    [
        lambda self, params: False,
        contextlib.contextmanager(no_generator),
        contextlib.asynccontextmanager(no_async_generator),
        wrapped(no_generator),
        wrapped(no_async_generator),
    ],
)
async def test_a_connect_that_did_not_run_or_says_no_lets_nobody_in(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await connect(type("Made", (Socket,), {"connect": answer}))
    assert refused.value.status == 500
    assert "Made.connect" in caplog.text


@pytest.mark.parametrize("kind", ["async def", "database_sync_to_async", "wrapped"])
async def test_an_authorize_that_says_no_says_no_and_is_never_a_coroutine(
    kind: str,
) -> None:
    async def authorize(self: Any) -> Any:
        return False

    namespace = {**channel_callbacks(), "authorize": authorize}
    made = made_of(kind, namespace, Channel)
    socket = await connect(type("Rooms", (Socket,), {"channels": {"room:*": made}}))
    with pytest.raises(JoinDenied, match="unauthorized"):
        await socket.join("room:1")
    await socket.close()


@pytest.mark.parametrize("kind", ["async def", "database_sync_to_async", "wrapped"])
async def test_a_name_or_a_key_may_be_awaited(kind: str) -> None:
    async def id(self: Any) -> str:
        return "user:7"

    async def presence_key(self: Any) -> str:
        return "seven"

    async def presence_meta(self: Any) -> Any:
        return {"device": "phone"}

    async def fetch(self: Any, topic: str, presences: Any) -> Any:
        return {key: {**p, "name": "Ada"} for key, p in presences.items()}

    who = made_of(kind, {"fetch": fetch}, Presence)
    who.name = f"test {kind}"
    keys = {"presence_key": presence_key, "presence_meta": presence_meta}
    made = made_of(kind, {**channel_callbacks(), **keys, "presence": None}, Channel)
    made.presence = who
    rooms = {"channels": {"room:*": made}, "id": KINDS[kind](id)}
    socket = await connect(type("Rooms", (Socket,), rooms))
    room = await socket.join("room:1")
    await room.assert_push("presence_diff")
    [(key, present)] = (await who.list("room:1")).items()
    assert (key, present["name"]) == ("seven", "Ada")
    assert present["metas"][0]["device"] == "phone"
    await adisconnect("user:7")
    await socket.assert_closed(1001)
    await socket.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_check_origin_is_made_of_its_no_is_a_no(kind: str) -> None:
    if "transaction" in kind or kind in ("def", "sync object", "async_to_sync"):
        return  # a plain one is called on the event loop

    async def same(parts: Any) -> bool:
        return parts.hostname == "here.test"

    check = KINDS[kind](same)
    for value in [check] if kind != "partialmethod" else []:
        is_function = inspect.isfunction(value)
        own = {"check_origin": staticmethod(value) if is_function else value}
        made = type("Made", (Socket,), own)
        await (await connect(made, headers={"origin": "https://here.test"})).close()
        with pytest.raises(ConnectionRefused) as refused:
            await connect(made, headers={"origin": "https://evil.test"})
        assert refused.value.status == 403
