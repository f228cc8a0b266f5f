"""One hook around all callbacks of a socket."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.functional import lazy

from phx_protocol import (
    Channel,
    ConnectionRefused,
    History,
    Presence,
    Socket,
    abroadcast,
    event,
)
from phx_protocol.socket.tables import CALLBACKS
from phx_protocol.testing import connect
from phx_protocol.tokens import TokenSocket

#: what a callback sees: set in the context
LANGUAGE = contextvars.ContextVar("LANGUAGE", default="en")


class Log:
    """What happened, in order."""

    entries: list[Any] = []


def note(*entry: Any) -> None:
    Log.entries.append(entry)


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    Log.entries = []


class AsyncChannel(Channel):
    intercepts = {"news"}
    history = History(rewind=1, events={"never"})

    async def authorize(self) -> bool:
        note("authorize", LANGUAGE.get())
        return True

    async def join(self, payload: Any) -> Any:
        note("join", LANGUAGE.get())
        return "ok"

    async def rewind_from(self, user: Any) -> Any:
        note("rewind_from", LANGUAGE.get())

    async def after_join(self) -> None:
        note("after_join", LANGUAGE.get())

    @event("new_msg")
    async def on_message(self, payload: Any) -> Any:
        note("new_msg", LANGUAGE.get())
        return "ok"

    async def handle_in(self, event: str, payload: Any) -> Any:
        note("handle_in", LANGUAGE.get())
        return "ok"

    async def handle_out(self, event: str, payload: Any) -> None:
        note("handle_out", LANGUAGE.get())
        await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        note("handle_info", LANGUAGE.get())

    async def terminate(self, reason: Any) -> None:
        note("terminate", LANGUAGE.get())


class SyncChannel(AsyncChannel):
    def authorize(self) -> bool:  # type: ignore[override]
        note("authorize", LANGUAGE.get())
        return True

    def join(self, payload: Any) -> Any:  # type: ignore[override]
        note("join", LANGUAGE.get())
        return "ok"

    def rewind_from(self, user: Any) -> Any:  # type: ignore[override]
        note("rewind_from", LANGUAGE.get())

    def after_join(self) -> None:  # type: ignore[override]
        note("after_join", LANGUAGE.get())

    def on_message(self, payload: Any) -> Any:  # type: ignore[override]
        note("new_msg", LANGUAGE.get())
        return "ok"

    def handle_in(self, event: str, payload: Any) -> Any:  # type: ignore[override]
        note("handle_in", LANGUAGE.get())
        return "ok"

    def handle_out(self, event: str, payload: Any) -> None:  # type: ignore[override]
        note("handle_out", LANGUAGE.get())

    def handle_info(self, message: Any) -> None:  # type: ignore[override]
        note("handle_info", LANGUAGE.get())

    def terminate(self, reason: Any) -> None:  # type: ignore[override]
        note("terminate", LANGUAGE.get())


class PlainChannel(Channel):
    """It defines what it must."""

    async def join(self, payload: Any) -> Any:
        return "ok"


class LanguageSocket(Socket):
    channels = {"async": AsyncChannel, "sync": SyncChannel, "plain": PlainChannel}

    async def connect(self, params: dict[str, Any]) -> None:
        note("connect", LANGUAGE.get())

    @contextlib.contextmanager
    def callback_context(self, channel: Channel | None, name: str) -> Iterator[None]:
        topic = None if channel is None else channel.topic
        note("enter", name, topic, threading.get_ident())
        token = LANGUAGE.set(self.params.get("language", "en"))
        try:
            yield
        finally:
            LANGUAGE.reset(token)
            note("leave", name, topic, threading.get_ident())


class SyncSocket(LanguageSocket):
    def connect(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        note("connect", LANGUAGE.get())


def steps() -> list[str]:
    """Each callback, checked to have run inside its context, in one thread and in its language."""
    found = []
    for enter, inside, leave in zip(*[iter(Log.entries)] * 3, strict=True):
        assert enter[0] == "enter" and leave == ("leave", *enter[1:])
        assert inside == (enter[1], "de")
        found.append(inside[0])
    return found


@pytest.mark.parametrize(
    "socket, topic", [(LanguageSocket, "async"), (SyncSocket, "sync")]
)
@pytest.mark.parametrize("wire", [True, False])
async def test_every_callback_runs_inside_the_context_of_its_socket(
    socket: type[Socket], topic: str, wire: bool
) -> None:
    client = await connect(socket, {"language": "de"}, wire=wire)
    channel = await client.join(topic)
    await channel.assert_reply(await channel.push("new_msg"), "ok")
    await channel.assert_reply(await channel.push("other"), "ok")
    await abroadcast(topic, "news", {})
    await client.settled()
    await abroadcast("elsewhere", "x", {})
    await client.close()
    assert steps() == [
        *("connect", "authorize", "join", "rewind_from", "after_join"),
        *("new_msg", "handle_in", "handle_out", "terminate"),
    ]
    assert LANGUAGE.get() == "en"
    channels = {entry[2] for entry in Log.entries if entry[0] == "enter"}
    assert channels == {None, topic}


async def test_handle_info_does_too() -> None:
    class Informed(AsyncChannel):
        async def after_join(self) -> None:
            await self.subscribe("elsewhere")

    class InformedSocket(LanguageSocket):
        channels = {"informed": Informed}

    client = await connect(InformedSocket, {"language": "de"})
    await client.join("informed")
    Log.entries = []
    await abroadcast("elsewhere", "x", {})
    await client.settled()
    assert steps() == ["handle_info"]
    await client.close()


async def test_what_a_class_does_not_define_needs_no_context() -> None:
    class QuietSocket(LanguageSocket):
        connect = Socket.connect

    client = await connect(QuietSocket)
    await client.join("plain")
    await client.close()
    assert [e[:2] for e in Log.entries] == [("enter", "join"), ("leave", "join")]


async def test_a_plain_def_runs_whole_in_the_context_also_its_answer() -> None:
    # read when it is made JSON, as a queryset is
    language = lazy(lambda: LANGUAGE.get(), str)()

    class LazyChannel(Channel):
        def join(self, payload: Any) -> Any:  # type: ignore[override]
            return "ok", {"language": language}

    class LazySocket(LanguageSocket):
        channels = {"lazy": LazyChannel}

    client = await connect(LazySocket, {"language": "de"})
    assert (await client.join("lazy")).reply == {"language": "de"}
    await client.close()


async def test_what_is_lazy_in_the_answer_of_an_async_def_is_read_inside_it_too() -> (
    None
):
    language = lazy(lambda: LANGUAGE.get(), str)()

    class LazyChannel(Channel):
        async def join(self, payload: Any) -> Any:
            return "ok", {"language": language}

        @event("ask")
        async def ask(self, payload: Any) -> Any:
            return "ok", {"language": language}

    class LazySocket(LanguageSocket):
        channels = {"lazy": LazyChannel}

    client = await connect(LazySocket, {"language": "de"})
    channel = await client.join("lazy")
    assert channel.reply == {"language": "de"}
    ref = await channel.push("ask")
    await channel.assert_reply(ref, "ok", {"language": "de"})
    await client.close()


async def test_a_def_that_returns_an_awaitable_runs_inside_it_too() -> None:
    class Wrapped(Channel):
        @functools.lru_cache(
            maxsize=None
        )  # noqa: B019 - any wrapper that hides an async def
        def join(self, payload: Any) -> Any:  # type: ignore[override]
            async def answer() -> Any:
                return "ok", {"language": LANGUAGE.get()}

            return answer()

    class WrappedSocket(LanguageSocket):
        channels = {"wrapped": Wrapped}

    client = await connect(WrappedSocket, {"language": "de"})
    assert (await client.join("wrapped", 1)).reply == {"language": "de"}
    await client.close()


async def test_the_context_is_left_when_a_callback_is_cancelled() -> None:
    waits = asyncio.Event()

    class SlowChannel(PlainChannel):
        @event("slow")
        async def slow(self, payload: Any) -> Any:
            waits.set()
            await asyncio.sleep(60)

    class SlowSocket(LanguageSocket):
        channels = {"slow": SlowChannel}
        shutdown_timeout = 0.01

    client = await connect(SlowSocket)
    channel = await client.join("slow")
    Log.entries = []
    await channel.push("slow")
    await waits.wait()
    await client.close()
    assert [e[:2] for e in Log.entries] == [("enter", "slow"), ("leave", "slow")]


async def test_a_context_that_raises_is_a_crash_of_the_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenSocket(LanguageSocket):
        def callback_context(self, channel: Any, name: str) -> Any:
            if name == self.params.get("at"):
                raise LookupError("no such tenant")
            return contextlib.nullcontext()

    with pytest.raises(ConnectionRefused) as refused:
        await connect(BrokenSocket, {"at": "connect"})
    assert refused.value.status == 500
    client = await connect(BrokenSocket, {"at": "new_msg"})
    channel = await client.join("async")
    await channel.push("new_msg")
    await channel.assert_ended(crashed=True)
    await client.close()
    assert "no such tenant" in caplog.text


@pytest.mark.parametrize("kind", ["async def", "a generator"])
@pytest.mark.parametrize("base", [Socket, Presence])
def test_it_is_a_plain_def_that_returns_a_context_manager(kind: str, base: Any) -> None:
    async def coroutine(self: Any, *args: Any) -> None: ...

    def generator(self: Any, *args: Any) -> Iterator[None]:
        yield

    wrong = coroutine if kind == "async def" else generator
    with pytest.raises(TypeError, match="callback_context must be a plain def"):
        type("Wrong", (base,), {"callback_context": wrong})


async def test_a_channel_of_two_sockets_has_the_context_of_the_one_it_is_in() -> None:
    class BareSocket(Socket):
        channels = LanguageSocket.channels

    for kind in (BareSocket, LanguageSocket, BareSocket):
        Log.entries = []
        client = await connect(kind, {"language": "de"})
        await client.join("async")
        language = "de" if kind is LanguageSocket else "en"
        assert ("join", language) in Log.entries
        await client.close()


def test_a_channel_without_a_context_calls_its_callbacks_directly() -> None:
    """It costs nothing to who does not use it."""
    tables = AsyncChannel.__phx_tables__
    assert all(tables.callbacks[n] is vars(AsyncChannel)[n] for n in CALLBACKS)


class LanguagePresence(Presence):
    diff_interval = 0

    async def fetch(self, topic: str, presences: Any) -> Any:
        note("fetch", LANGUAGE.get())
        return presences

    def handle_metas(  # type: ignore[override]
        self, topic: str, joins: Any, leaves: Any, presences: Any
    ) -> None:
        note("handle_metas", LANGUAGE.get())

    @contextlib.contextmanager
    def callback_context(self, topic: str) -> Iterator[None]:
        assert LANGUAGE.get() == "en"
        token = LANGUAGE.set(topic)
        try:
            yield
        finally:
            LANGUAGE.reset(token)


async def test_presence_hooks_have_one_of_their_topic_and_begin_with_an_empty_one() -> (
    None
):
    class Present(Channel):
        presence = LanguagePresence

        async def join(self, payload: Any) -> Any:
            LANGUAGE.set("of the channel")
            return "ok"

    class PresentSocket(Socket):
        channels = {"fr": Present}

    LANGUAGE.set("of the test")
    client = await connect(PresentSocket)
    await client.join("fr")
    await client.settled()
    assert await LanguagePresence.list("fr")
    async with asyncio.timeout(5):
        while ("handle_metas", "fr") not in Log.entries:
            await asyncio.sleep(0.01)
    seen = set(Log.entries)
    assert seen >= {("fetch", "fr"), ("handle_metas", "fr")}
    assert {language for _, language in seen} == {"fr"}
    await client.close()


async def test_a_token_socket_has_it_too() -> None:
    class ContextTokenSocket(LanguageSocket, TokenSocket):
        token_required = False

    client = await connect(ContextTokenSocket, {"language": "de"})
    assert steps() == ["connect"]
    await client.close()
