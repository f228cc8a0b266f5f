"""Nothing that a client sends costs other clients anything, or leaves something behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from phx_protocol import Channel, PhoenixConsumer, Socket, event
from phx_protocol.node.node import get_node
from phx_protocol.socket.server import ChannelServer
from phx_protocol.transports.longpoll.session import LongPollSession
from tests.support.asgi_poll_client import Client, Request

Feed = Callable[[Any], Awaitable[None]]


class EchoChannel(Channel):
    intercepts = {"seen"}

    async def join(self, payload: Any) -> Any:
        return "ok", payload

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("shout")
    async def shout(self, payload: Any) -> Any:
        if isinstance(payload, (dict, bytes)):
            await self.broadcast("seen", payload)


class HostileSocket(Socket):
    channels = {"room:*": EchoChannel, "*": EchoChannel}
    longpoll = {"WINDOW": 0.05, "SESSION_TIMEOUT": 0.02}
    max_frame_size = 5000
    max_channels = 10


class CalmSocket(HostileSocket):
    longpoll = True


# ------------------------------------------------------------- what is sent

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
refs = st.sampled_from([None, "1", "2", 1, 0, "", "1" * 2000]) | json_values
topics = st.sampled_from(["room:1", "room:2", "phoenix", "nowhere", ""]) | json_values
names = st.sampled_from(
    ["phx_join", "phx_leave", "heartbeat", "echo", "shout", "seen", "disconnect"]
    + ["phx_reply", "phx_close", "join", "terminate", "__init__", "_server"]
)
messages = st.tuples(refs, refs, topics, names | json_values, json_values)
texts = messages.map(lambda message: json.dumps(message))
v1 = st.fixed_dictionaries(
    {"topic": topics, "event": names, "payload": json_values, "ref": refs}
).map(lambda message: json.dumps(message))
short = st.sampled_from(["1", "", "room:1", "echo", "phx_join", "x" * 200])
pushes = st.tuples(short, short, short, short, st.binary(max_size=20)).map(
    lambda m: bytes((0, *(len(part) for part in m[:4])))
    + "".join(m[:4]).encode()
    + m[4]
)
broken = st.tuples(texts, st.integers(0, 200), st.text(max_size=3)).map(
    lambda m: m[0][: m[1]] + m[2] + m[0][m[1] + 1 :]
)
depths = st.integers(1, 2400).map(lambda n: '["1","1","room:1","echo",' + "[" * n)
frames = texts | v1 | broken | depths | st.text(max_size=50) | pushes | st.binary()


# --------------------------------------------------------------- the harness


class Calm:
    """Return the counts that must be as before when the hostile client has gone."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.unhandled: list[Any] = []
        self.before = set(map(id, gc.get_objects()))

    def handle(self, loop: Any, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def check(self) -> None:
        assert not self.unhandled
        crashes = [r for r in self.caplog.records if r.levelno >= logging.ERROR]
        # an echo of what V1 or JSON cannot carry is the application's own crash
        allowed = ("crashed on", "of join cannot be sent", "cannot be sent, they are")
        assert [
            r.getMessage()
            for r in crashes
            if not any(text in r.getMessage() for text in allowed)
        ] == []
        gc.collect()
        kinds = (HostileSocket, ChannelServer, EchoChannel, LongPollSession)
        # by type(): other tests leave lazy objects, whose class is their content's
        left = [o for o in gc.get_objects() if issubclass(type(o), kinds)]
        assert [o for o in left if id(o) not in self.before] == []


@pytest.fixture
def calm(caplog: pytest.LogCaptureFixture) -> Iterator[Calm]:
    caplog.set_level(logging.ERROR)
    calm = Calm(caplog)
    yield calm
    calm.check()


def fuzz(calm: Calm, what: Any, count: int, make: Callable[[], Any]) -> None:
    """Feed `count` of `what` to the client that `make` makes, with the same seed every time."""
    fed = 0
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(calm.handle)
        client = runner.run(make())

        @seed(20261123)
        @settings(
            max_examples=count // 10,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(what, min_size=10, max_size=10))
        def feed(batch: list[Any]) -> None:
            nonlocal fed
            fed += len(batch)
            runner.run(client.feed(batch))

        feed()
        runner.run(client.finish())
    assert fed >= count


class HostileClient:
    """Sends frames on a WebSocket, and connects again whenever it is thrown out."""

    def __init__(self, vsn: str) -> None:
        self.vsn = vsn
        self.connection: WebsocketCommunicator | None = None

    async def start(self) -> HostileClient:
        self.neighbour = await self.connect("2.0.0")
        await self.say(["1", "1", "room:1", "phx_join", {}])
        self.tasks = len(asyncio.all_tasks())
        return self

    async def connect(self, vsn: str) -> WebsocketCommunicator:
        application = PhoenixConsumer.as_asgi(socket=HostileSocket)
        url = f"/socket/websocket?vsn={vsn}"
        connection = WebsocketCommunicator(application, url)
        assert (await connection.connect())[0]
        return connection

    async def feed(self, batch: list[Any]) -> None:
        for frame in batch:
            if self.connection is None:
                self.connection = await self.connect(self.vsn)
            kind = "text" if isinstance(frame, str) else "bytes"
            await self.connection.send_input({"type": "websocket.receive", kind: frame})
            await asyncio.sleep(0)
            if self.connection.future.done():
                await self.connection.wait()
                self.connection = None
        await self.say([None, "9", "phoenix", "heartbeat", {}])
        if self.connection is not None:
            while not self.connection.output_queue.empty():
                self.connection.output_queue.get_nowait()

    async def say(self, message: list[Any]) -> None:
        """The neighbour is answered as if nothing happened."""
        await self.neighbour.send_to(text_data=json.dumps(message))
        while True:
            answer = json.loads(await self.neighbour.receive_from(5))
            if answer[1] == message[1]:
                assert answer[4]["status"] == "ok"
                return
            assert answer[3] == "seen"  # the hostile client may talk to it

    async def finish(self) -> None:
        if self.connection is not None:
            await self.connection.disconnect()
        for _ in range(100):
            if len(asyncio.all_tasks()) <= self.tasks:
                break
            await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) <= self.tasks
        await self.neighbour.disconnect()
        assert not len(get_node().connections) and not get_node().pubsub.registry
        await get_node().close()


many = pytest.param(50_000, marks=pytest.mark.big)


@pytest.mark.parametrize("count", [1000, many])
@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
def test_fuzzed_frames(calm: Calm, vsn: str, count: int) -> None:
    fuzz(calm, frames, count, lambda: HostileClient(vsn).start())


# ------------------------------------------------------------------ long-poll

tokens = st.sampled_from(["", "valid", "valid", "valid", "truncated", "longer"])
queries = st.sampled_from(
    [b"vsn=2.0.0", b"vsn=1.0.0", b"vsn=2", b"", b"vsn[]=2.0.0", b"a=%ff", b"%", b"a[b"]
) | st.binary(max_size=30)
header = st.sampled_from(
    ["content-type", "origin", "x-phoenix-longpoll-token", "x-phoenix-authtoken"]
    + ["cookie", "access-control-request-headers", "host", "sec-fetch-site"]
)
value = st.sampled_from(
    ["application/x-ndjson", "application/json", "http://testserver", "null", "é"]
) | st.text(st.characters(max_codepoint=255), max_size=20)
lines = st.lists(texts | st.text(max_size=20), max_size=5).map("\n".join)
bodies = lines.map(lambda text: text.encode("utf-8", "replace")) | st.binary()
requests = st.tuples(
    st.sampled_from(["GET", "POST", "POST", "POST", "OPTIONS", "PUT", "HEAD"]),
    queries,
    tokens,
    st.dictionaries(header, value, max_size=3),
    bodies,
)


class HostilePoller:
    """Sends requests of all kinds; some of them to a session that it has."""

    async def start(self) -> HostilePoller:
        self.neighbour = Client(CalmSocket)
        await self.neighbour.open()
        self.client = Client(HostileSocket)
        await self.client.open()
        return self

    async def feed(self, batch: list[Any]) -> None:
        for method, query, token, headers, body in batch:
            valid = str(self.client.token)
            signed = {"valid": valid, "truncated": valid[:-3], "longer": f"{valid}x"}
            if token in signed:
                query += b"&token=" + signed[token].encode()
            request = Request(HostileSocket, method, query, headers, body)
            await (await request.send()).body()
            assert request.status in (200, 400, 500)
        if (await self.client.poll())["status"] == 410:
            await self.client.open()
        beat = [None, "9", "phoenix", "heartbeat", {}]
        assert await self.neighbour.post(beat) == {"status": 200}
        assert (await self.neighbour.receive())[1] == "9"

    async def finish(self) -> None:
        await get_node().drainer.drain_now()
        assert not len(get_node().connections) and not get_node().pubsub.registry
        await get_node().close()


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.big)])
def test_fuzzed_long_poll_requests(calm: Calm, count: int) -> None:
    fuzz(calm, requests, count, lambda: HostilePoller().start())
