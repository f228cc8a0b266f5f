"""Our class takes what comes at once, in its order, and does all else as uvicorn's own class does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from phx_protocol.contrib.uvicorn import PhoenixWebSocketProtocol, protocol
from phx_protocol.contrib.uvicorn.protocol import IS_KNOWN, _is_known
from tests.support import servers
from tests.support.ws_client import Client

from .talk import Application, Talk, request
from .test_handshake import LINES, ODD, TWICE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.serve("frames", tmp_path_factory.mktemp("uvicorn") / "log") as server:
        yield server


def wire(data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def echo(ref: int) -> bytes:
    return json.dumps(["1", str(ref), "room:a", "echo", {}]).encode()


async def replies(client: Client, count: int) -> list[int]:
    return [int((await client.receive())[1]) for _ in range(count)]


async def test_frames_of_one_segment_are_answered_in_their_order(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        await client.join("room:a")
        for count in (
            1,
            2,
            15,
            16,
            17,
            300,
        ):  # more than is taken in a turn, and a flood
            refs = list(range(100, 100 + count))
            client.ws.transport.write(b"".join(wire(echo(ref)) for ref in refs))
            assert await replies(client, count) == refs


async def test_messages_that_arrive_in_pieces_keep_their_order(
    server: servers.Server,
) -> None:
    async with Client(server.url) as client:
        await client.join("room:a")
        half = len(echo(2)) // 2
        client.ws.transport.write(
            wire(echo(1))
            + wire(echo(2)[:half], fin=False)
            + wire(echo(2)[half:], Opcode.CONT)
            + wire(echo(3))
        )
        assert await replies(client, 3) == [1, 2, 3]


@pytest.mark.parametrize(("data", "code"), [(b"\xff", 1007), (b"no json", 1011)])
async def test_data_that_is_not_a_frame_closes_only_its_own_connection(
    server: servers.Server, data: bytes, code: int
) -> None:
    async with Client(server.url) as bad, Client(server.url) as good:
        await good.join("room:a")
        bad.ws.transport.write(wire(data) + wire(data))
        with pytest.raises(ConnectionClosed):
            while True:
                await bad.receive()
        assert bad.ws.close_code == code
        assert await good.ask("room:a", "echo", {"n": 1}) == ("ok", {"n": 1})


# ------------------------------------------------- compared with uvicorn's own class


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def both(
    data: list[bytes], application: Application = accepting, **options: Any
) -> list[tuple[Any, Any, bool]]:
    """What uvicorn's class and ours answer to the same bytes: the scope, the bytes, whether they close."""
    found = []
    for kind in (WebSocketsSansIOProtocol, PhoenixWebSocketProtocol):
        talk = Talk(kind, application, **options)
        for each in data:
            talk.receive(each)
            await talk.settle()
        found.append((talk.scope(), talk.answer(), talk.transport.closing))
        await talk.end()
    return found


def are_alike(theirs: Any, ours: Any) -> bool:
    """Return whether both did the same; ours says 431 where uvicorn's class says nothing."""
    nothing, says = (None, (b"", {}, b""), False), ours[1][0]
    return bool(theirs == ours or (theirs == nothing and b" 431 " in says))


@pytest.mark.parametrize("changes", [{}, *ODD])
async def test_a_handshake_is_answered_as_uvicorn_answers_it(changes: Any) -> None:
    theirs, ours = await both([request(changes)])
    assert are_alike(theirs, ours)


@pytest.mark.parametrize("line", [*LINES, b"GET /%C3%A4/%2F?x=%20&y#z HTTP/1.1"])
async def test_a_request_line_is_read_as_uvicorn_reads_it(line: bytes) -> None:
    theirs, ours = await both([request(line=line)])
    assert are_alike(theirs, ours)


@pytest.mark.parametrize("more", TWICE)
async def test_headers_that_come_twice_are_judged_as_uvicorn_judges_them(
    more: bytes,
) -> None:
    theirs, ours = await both([request(more=more)])
    assert are_alike(theirs, ours)


@pytest.mark.parametrize("root", ["", "/root"])
@pytest.mark.parametrize(
    "changes",
    [
        {b"sec-websocket-protocol": b"phoenix,  a"},
        {b"cookie": b"a=\xff: b", b"origin": b"http://a"},
        {b"connection": b"keep-alive, Upgrade"},
    ],
)
async def test_the_scope_is_that_of_uvicorn(changes: Any, root: str) -> None:
    theirs, ours = await both([request(changes)], root_path=root)
    assert ours == theirs and ours[0] is not None


async def test_an_extension_is_agreed_on_as_uvicorn_does_it() -> None:
    offer = request({b"sec-websocket-extensions": b"permessage-deflate"})
    theirs, ours = await both([offer], ws_per_message_deflate=True)
    assert ours == theirs and b"sec-websocket-extensions" in ours[1][1]
    theirs, ours = await both([offer], ws_per_message_deflate=False)
    assert ours == theirs and b"sec-websocket-extensions" not in ours[1][1]


def saying(*messages: Any) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)

    return application


ACCEPT = {"type": "websocket.accept"}
REFUSAL = {"type": "websocket.http.response.start", "status": 418}
BODY = {"type": "websocket.http.response.body", "body": b"no"}


@pytest.mark.parametrize(
    "messages",
    [
        [{**ACCEPT, "subprotocol": "phoenix"}],
        [{**ACCEPT, "subprotocol": "not offered"}],
        [{**ACCEPT, "headers": [(b"X-A", b"b")]}],
        [{**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}],
        [ACCEPT, ACCEPT],
        [ACCEPT, {"type": "websocket.send", "text": "a"}, {"type": "websocket.close"}],
        [ACCEPT, {"type": "websocket.send", "bytes": b"a"}],
        [{"type": "websocket.close"}],
        [REFUSAL, BODY],
        [REFUSAL, ACCEPT],
        [{"type": "websocket.send", "text": "a"}],
        [],
    ],
)
async def test_an_application_is_served_as_uvicorn_serves_it(messages: Any) -> None:
    offer = request({b"sec-websocket-protocol": b"phoenix"})
    theirs, ours = await both([offer], saying(*messages))
    assert ours == theirs


async def echoing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        data = {k: v for k, v in message.items() if k != "type"}
        await send({"type": "websocket.send", **data})


TEXT = wire("grüße".encode())
PIECES = {
    "a text": [TEXT],
    "two texts": [TEXT + TEXT],
    "a text in two reads": [TEXT[:4], TEXT[4:]],
    "a text and half of the next": [TEXT + TEXT[:7], TEXT[7:] + TEXT],
    "a binary one between texts": [TEXT + wire(b"\xff", Opcode.BINARY) + TEXT],
    "fragments": [TEXT + wire(b"a", fin=False), wire(b"b", Opcode.CONT) + TEXT],
    "a ping in fragments": [
        wire(b"a", fin=False) + wire(b"p", Opcode.PING) + wire(b"b", Opcode.CONT)
    ],
    "a text in fragments": [wire(b"a", fin=False) + TEXT],
    "a character in two fragments": [
        wire(b"\xc3", fin=False) + wire(b"\xa4", Opcode.CONT) + TEXT
    ],
    "a pong that nobody asked for": [wire(b"x", Opcode.PONG) + TEXT],
    "a close": [TEXT + wire(b"\x03\xe8bye", Opcode.CLOSE) + TEXT],
    "bad UTF-8": [wire(b"\xff") + TEXT],
    "not masked": [TEXT + Frame(Opcode.TEXT, b"a").serialize(mask=False)],
    "a reserved bit": [bytes((0xC1,)) + TEXT[1:]],
    "a reserved opcode": [bytes((0x8B,)) + TEXT[1:]],
    "too long": [TEXT, wire(b"x" * 1001)],
    "long enough": [wire(b"x" * 1000)],
}


@pytest.mark.parametrize("data", PIECES.values(), ids=PIECES)
async def test_frames_are_handled_as_uvicorn_handles_them(data: list[bytes]) -> None:
    theirs, ours = await both([request(), *data], echoing, ws_max_size=1000)
    assert ours == theirs


@pytest.mark.skipif(not IS_KNOWN, reason="another version of uvicorn")
async def test_websockets_is_needed_only_for_what_is_not_ordinary() -> None:
    talk = Talk(PhoenixWebSocketProtocol, echoing)
    talk.receive(request())
    await talk.settle()
    for data in (TEXT, wire(b"x", Opcode.PING), wire(b"b", Opcode.BINARY), TEXT):
        talk.receive(data)
        await talk.settle()
    made = talk.protocol.conn
    talk.receive(TEXT[:3])
    assert talk.protocol.conn is not made
    await talk.end()


@pytest.mark.parametrize("data", PIECES.values(), ids=PIECES)
async def test_with_another_version_of_uvicorn_its_own_methods_do_all(
    data: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IS_KNOWN", False)
    theirs, ours = await both([request(), *data], echoing, ws_max_size=1000)
    assert ours == theirs


@pytest.mark.skipif(not IS_KNOWN, reason="another version of uvicorn")
def test_a_version_that_sets_something_new_or_nothing_of_the_old_is_another_one() -> (
    None
):
    class New(WebSocketsSansIOProtocol):
        def __init__(self) -> None:
            self.something_new = 1

    class Old(WebSocketsSansIOProtocol):
        def __init__(self) -> None:
            self.queue: Any = None

    assert _is_known(WebSocketsSansIOProtocol)
    assert not _is_known(New) and not _is_known(Old)
