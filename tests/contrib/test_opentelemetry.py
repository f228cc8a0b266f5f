"""Traces: what happens below what, within a process and on the way to another one."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from phx_protocol import (
    Channel,
    ConnectionRefused,
    History,
    JoinDenied,
    abroadcast,
    event,
    outbox,
)
from phx_protocol.api import broadcasts
from phx_protocol.contrib import opentelemetry
from phx_protocol.pubsub.pubsub import PubSub
from phx_protocol.socket.server import ChannelServer
from phx_protocol.testing import TestSocket, connect
from phx_protocol.testing.communicators import WireCommunicator
from phx_protocol.transports.handshake import Handshake
from phx_protocol.transports.websocket import PhoenixConsumer
from tests.contrib.rooms import Doors, Room
from tests.support import servers
from tests.support.rooms import JOINS
from tests.support.ws_client import TIMEOUT, Client

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("the project's own")


class Spans:
    """The exported spans."""

    def __iter__(self) -> Iterator[ReadableSpan]:
        return iter(exporter.get_finished_spans())

    def of(self, name: str) -> ReadableSpan:
        """The only one that is called `name`."""
        (span,) = [span for span in self if span.name == name]
        return span

    def names(self) -> list[str]:
        return [span.name for span in self]

    async def until(self, name: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while name not in self.names():
                await asyncio.sleep(0)


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter.clear()
    opentelemetry.instrument(provider)
    yield Spans()
    opentelemetry.uninstrument()


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class Kept(Channel):
    history = History(size=10)

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("say")
    async def say(self, payload: Any) -> Any:
        await self.broadcast("said", payload)
        return "ok"


class TracedRoom(Room):
    """With spans of the project's own, as what traces the database makes them."""

    async def after_join(self) -> None:
        with tracer.start_as_current_span("after_join's own"):
            pass

    async def handle_out(self, event: str, payload: Any) -> None:
        with tracer.start_as_current_span("handle_out's own"):
            await self.push(event, payload)

    async def handle_info(self, message: Any) -> None:
        with tracer.start_as_current_span("handle_info's own"):
            await super().handle_info(message)

    @event("query")
    def query(self, payload: Any) -> Any:
        with tracer.start_as_current_span("in a thread"):
            return "ok"


class TracedDoors(Doors):
    channels = {"room:*": TracedRoom, "kept:*": Kept}


# ------------------------------------------------------------------- connections


async def test_connect_is_below_the_span_of_the_proxy(spans: Spans) -> None:
    client = await connect(Doors, headers=TRACEPARENT)
    span = spans.of("connect Doors")
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None and span.parent.is_remote
    assert format(span.context.trace_id, "032x") == TRACE
    assert format(span.parent.span_id, "016x") == SPAN
    assert attributes(span) == {
        "phx.socket": "tests.contrib.rooms.Doors",
        "phx.transport": "websocket",
        "url.path": "/socket/websocket",
    }
    await client.close()


async def connect_to_a_traced_server() -> TestSocket:
    """As with OpenTelemetry's ASGI middleware, whose span lasts as long as the connection."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("the request"):
            await PhoenixConsumer.as_asgi(socket=Doors)(scope, receive, send)

    url = "/socket/websocket?vsn=2.0.0"
    communicator = WebsocketCommunicator(application, url)
    assert (await communicator.connect())[0]
    return TestSocket(WireCommunicator(communicator))


async def test_the_span_of_connect_is_below_the_one_of_the_request(
    spans: Spans,
) -> None:
    client = await connect_to_a_traced_server()
    await client.close()
    span = spans.of("connect Doors")
    assert span.kind is SpanKind.INTERNAL
    assert parent(span) == id_of(spans.of("the request"))


@pytest.mark.parametrize(
    ("params", "status", "failed"),
    [({"refuse": "1"}, 403, False), ({"crash": "1"}, 500, True)],
)
async def test_a_refused_connection_is_no_error_and_a_crash_is(
    spans: Spans, params: dict[str, str], status: int, failed: bool
) -> None:
    with pytest.raises(ConnectionRefused):
        await connect(Doors, params)
    span = spans.of("connect Doors")
    assert attributes(span)["http.response.status_code"] == status
    assert (span.status.status_code is StatusCode.ERROR) == failed
    assert [e.name for e in span.events] == ["exception"] * failed
    if failed:
        assert span.status.description == "RuntimeError: no connect"


# ---------------------------------------------------------------------- channels


@pytest.mark.parametrize(("subtopic", "result"), JOINS.items())
async def test_a_join_is_a_trace_with_a_link_to_its_connection(
    spans: Spans, subtopic: str, result: str
) -> None:
    client = await connect(Doors)
    with contextlib.suppress(JoinDenied):
        await client.join(f"room:{subtopic}")
    await spans.until("join Room")
    span = spans.of("join Room")
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    (link,) = span.links
    assert link.context.span_id == id_of(spans.of("connect Doors"))
    assert attributes(span) == {
        "messaging.system": "phoenix",
        "messaging.destination.name": f"room:{subtopic}",
        "messaging.operation.name": "join",
        "messaging.operation.type": "process",
        "phx.event": "phx_join",
        "phx.channel": "tests.contrib.rooms.Room",
        "phx.result": result,
    }
    assert (span.status.status_code is StatusCode.ERROR) == (result == "crashed")
    await client.close()


async def test_an_event_is_a_trace_of_its_own(spans: Spans) -> None:
    client = await connect_to_a_traced_server()
    room = await client.join("room:lobby")
    await room.assert_reply(await room.push("answer", {"status": "yes"}), "yes")
    await spans.until("handle_in Room")
    span = spans.of("handle_in Room")
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    assert [n.context.span_id for n in span.links] == [id_of(spans.of("connect Doors"))]
    found = attributes(span)
    assert (found["phx.event"], found["phx.status"]) == ("answer", "yes")
    assert span.status.status_code is StatusCode.UNSET
    await client.close()


async def test_a_crash_is_an_error_with_its_traceback(spans: Spans) -> None:
    client = await connect(Doors)
    room = await client.join("room:lobby")
    await room.push("crash")
    await room.assert_ended(crashed=True)
    await spans.until("handle_in Room")
    span = spans.of("handle_in Room")
    assert span.status.status_code is StatusCode.ERROR
    (recorded,) = span.events
    assert "ZeroDivisionError" in str(recorded.attributes["exception.stacktrace"])
    assert "phx.status" not in attributes(span)
    await client.close()


async def test_spans_of_user_code_are_below_the_callback(spans: Spans) -> None:
    client = await connect(TracedDoors)
    room = await client.join("room:lobby")
    await room.assert_reply(await room.push("listen", {"topic": "news"}), "ok")
    await room.assert_reply(await room.push("query"), "ok")
    with tracer.start_as_current_span("a view"):
        await abroadcast("room:lobby", "whispered", {})
    with tracer.start_as_current_span("a task"):
        await abroadcast("news", "new", {})
    await room.assert_push("heard")
    await spans.until("handle_info TracedRoom")
    for own, callback in (
        ("after_join's own", "join TracedRoom"),
        ("handle_out's own", "handle_out TracedRoom"),
        ("handle_info's own", "handle_info TracedRoom"),
    ):
        assert parent(spans.of(own)) == id_of(spans.of(callback))
    handled = {id_of(s): attributes(s)["phx.event"] for s in spans if "_in " in s.name}
    assert handled[parent(spans.of("in a thread")) or 0] == "query"
    for callback, origin in (("handle_out", "a view"), ("handle_info", "a task")):
        span = spans.of(f"{callback} TracedRoom")
        assert span.kind is SpanKind.CONSUMER
        assert span.context.trace_id == spans.of(origin).context.trace_id
    await client.close()


# -------------------------------------------------------------------- broadcasts


def assert_is_a_chain(*chain: ReadableSpan) -> None:
    """Each is below the one before it, and the first below nothing."""
    assert chain[0].parent is None
    for above, below in zip(chain, chain[1:]):
        assert parent(below) == id_of(above)
        assert below.context.trace_id == above.context.trace_id


@pytest.mark.parametrize("topic", ["room:1", "kept:1"])
async def test_a_broadcast_is_below_its_event_and_the_delivery_below_it(
    spans: Spans, topic: str
) -> None:
    client = await connect(TracedDoors)
    room = await client.join(topic)
    await room.assert_reply(await room.push("say", {"a": 1}), "ok")
    await room.assert_push("said")
    name = f"handle_in {'TracedRoom' if topic == 'room:1' else 'Kept'}"
    await spans.until(name)
    handled, broadcast, deliver = map(spans.of, (name, "broadcast", "deliver"))
    assert_is_a_chain(handled, broadcast, deliver)
    assert (broadcast.kind, deliver.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {
        "messaging.system": "phoenix",
        "messaging.destination.name": topic,
        "phx.event": "said",
    }
    assert attributes(broadcast) == {
        **common,
        "messaging.operation.name": "broadcast",
        "messaging.operation.type": "send",
        "messaging.message.body.size": 7,
    }
    assert attributes(deliver) == {
        **common,
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "phx.subscribers": 2,  # the channel, and the test that listens beside it
    }
    await client.close()


@pytest.mark.django_db(transaction=True)
async def test_a_delivery_from_the_outbox_is_below_the_span_that_wrote_it(
    spans: Spans,
) -> None:
    client = await connect(TracedDoors)
    room = await client.join("room:1")
    with tracer.start_as_current_span("view") as view:
        headers = broadcasts.trace_headers()
        await outbox.abroadcast("room:1", "said", {"a": 1})
    assert headers is not None
    await outbox.asend_waiting()
    await room.assert_push("said")
    deliver = spans.of("deliver")
    assert deliver.parent is not None
    assert deliver.parent.span_id == view.get_span_context().span_id
    await client.close()


async def test_an_intercepted_broadcast_is_traced_to_each_handle_out(
    spans: Spans,
) -> None:
    clients = [await connect(Doors) for _ in range(2)]
    rooms = [await client.join("room:1") for client in clients]
    await rooms[0].assert_reply(await rooms[0].push("whisper"), "ok")
    for room in rooms:
        await room.assert_push("whispered")
    chain = [spans.of(n) for n in ("handle_in Room", "broadcast", "deliver")]
    outs = [span for span in spans if span.name == "handle_out Room"]
    assert len(outs) == 2
    for out in outs:
        assert_is_a_chain(*chain, out)
    for client in clients:
        await client.close()


async def test_a_broadcast_without_subscribers_here_has_no_deliver_span(
    spans: Spans,
) -> None:
    await abroadcast("room:empty", "new", {})
    assert spans.names() == ["broadcast"]


# ---------------------------------------------------------------- on and off again

#: what is wrapped, and the parameters that the wrappers know of
PARAMETERS = {
    (Handshake, "admit"): ["self", "auth_token", "transport"],
    (ChannelServer, "_join"): ["self", "message"],
    (ChannelServer, "_handle_in"): ["self", "message"],
    (ChannelServer, "_handle_out"): ["self", "mail"],
    (ChannelServer, "_handle_info"): ["self", "mail"],
    (PubSub, "publish"): ["self", "broadcast", "history", "exclude"],
    (PubSub, "deliver_local"): ["self", "broadcast", "exclude", "strict"],
    (broadcasts, "trace_headers"): [],
}


def test_the_wrapped_methods_exist_with_the_expected_parameters() -> None:
    assert PARAMETERS.keys() == opentelemetry.WRAPPED.keys()
    for (owner, name), parameters in PARAMETERS.items():
        assert list(inspect.signature(vars(owner)[name]).parameters) == parameters


def test_the_wrappers_have_the_signatures_of_the_wrapped_methods(
    spans: Spans,
) -> None:
    for owner, name in PARAMETERS:
        wrapper = vars(owner)[name]
        original = wrapper.__wrapped__
        assert wrapper.__qualname__ == original.__qualname__
        assert inspect.signature(wrapper) == inspect.signature(original)
        is_async = inspect.iscoroutinefunction
        assert is_async(wrapper) == is_async(original)


def test_uninstrument_leaves_nothing_behind() -> None:
    before = {key: vars(key[0])[key[1]] for key in PARAMETERS}
    for _ in range(2):
        opentelemetry.instrument(provider)
        opentelemetry.instrument(provider)  # once more does no harm
        assert all(vars(o)[n].__wrapped__ is before[o, n] for o, n in before)
        opentelemetry.uninstrument()
        opentelemetry.uninstrument()
        assert before == {key: vars(key[0])[key[1]] for key in PARAMETERS}
    assert not any(signal.receivers for signal in opentelemetry.RECEIVERS)


async def test_open_connections_survive_instrument_and_uninstrument(
    spans: Spans,
) -> None:
    opentelemetry.uninstrument()
    client = await connect(Doors)
    room = await client.join("room:1")
    opentelemetry.instrument(provider)
    await room.assert_reply(await room.push("say"), "ok")
    opentelemetry.uninstrument()
    assert await room.assert_push("said") == {}
    await room.assert_reply(await room.push("say"), "ok")
    assert {"broadcast", "deliver", "handle_in Room"} == set(spans.names())
    assert spans.of("handle_in Room").links == ()
    await client.close()


# ------------------------------------------------------------ in several processes


def exported(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def until_exported(path: Path, name: str) -> dict[str, Any]:
    """The span of a whispered broadcast that is called `name`, and is the only one."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            found = [span for span in exported(path) if span["name"] == name]
            if found:
                (span,) = found
                return span
            await asyncio.sleep(0.01)


async def test_a_broadcast_is_one_trace_over_all_processes(
    redis_url: str, tmp_path: Path
) -> None:
    application = "tests.contrib.traces_asgi:application"
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(
                servers.serve(
                    "uvicorn",
                    file.with_suffix(".log"),
                    application,
                    PHX_REDIS_URL=redis_url,
                    SPANS=str(file),
                )
            )
            for file in files
        )
        async with Client(one.url) as here, Client(two.url) as there:
            for client in (here, there):
                assert (await client.join("room:traced"))[0] == "ok"
            assert (await here.ask("room:traced", "whisper", {"a": 1}))[0] == "ok"
            assert await there.until("whispered") == {"a": 1}
            handle_in, broadcast = [
                await until_exported(files[0], name)
                for name in ("handle_in Room", "broadcast")
            ]
            by_process = [
                [await until_exported(f, n) for n in ("deliver", "handle_out Room")]
                for f in files
            ]
    assert handle_in["parent_id"] is None
    assert broadcast["parent_id"] == handle_in["context"]["span_id"]
    for deliver, handle_out in by_process:
        assert deliver["parent_id"] == broadcast["context"]["span_id"]
        assert handle_out["parent_id"] == deliver["context"]["span_id"]
    every = [handle_in, broadcast, *by_process[0], *by_process[1]]
    assert len({span["context"]["trace_id"] for span in every}) == 1
    assert len({span["context"]["span_id"] for span in every}) == len(every)
    names = sorted(span["name"] for span in exported(files[1]))
    assert names == ["connect Doors", "deliver", "handle_out Room", "join Room"]
