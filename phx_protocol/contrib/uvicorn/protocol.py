"""PhoenixWebSocketProtocol: uvicorn's WebSocket class, with what is ordinary read and written here."""

from __future__ import annotations

import asyncio
import dis
import logging
from collections.abc import Callable
from operator import attrgetter
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from ...transports.servers.adapter import READ_SIZE, RawTransport, joined
from ...transports.servers.uvicorn import RAW_TRANSPORT
from . import frames, handshake
from .waiting import Gate, Inbox

#: True if uvicorn's ``__init__`` sets what it did in the version that our class was written for. In another
#: version, uvicorn's own methods read all handshakes and frames, and the application only writes its own.
IS_KNOWN: bool

#: the answer to a handshake that cannot be read
UNREADABLE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class Shared:
    """An attribute that is looked up in another object, until it is set."""

    def __init__(self, get: Callable[[Any], Any]) -> None:
        self._get = get

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._get(instance)


class PhoenixWebSocketProtocol(WebSocketsSansIOProtocol):
    """The protocol class for the option ``--ws`` (``ws=`` of ``uvicorn.Config``)."""

    # ------------------------------------------------------- the implementation

    # Some of uvicorn's attributes are here too: an object with more than 30 in its dict needs 1.2 KiB more.
    __slots__ = (
        "raw",
        "_rest",
        "_is_going_on",
        "_connection",
        "_accept_key",
        "_server_state",
        "queue",
        "writable",
        "app_state",
        "transport",
        "scope",
        "config",
    )
    _connection: ServerProtocol | None
    queue: Any
    writable: Any
    scope: Any

    # What uvicorn's ``__init__`` sets for each connection is here once for all.
    logger = logging.getLogger("uvicorn.error")
    loop: Any = Shared(lambda protocol: asyncio.get_running_loop())
    app: Any = Shared(attrgetter("config.loaded_app"))
    root_path: Any = Shared(attrgetter("config.root_path"))
    asgi_version: Any = Shared(attrgetter("config.asgi_version"))
    ping_interval: Any = Shared(attrgetter("config.ws_ping_interval"))
    ping_timeout: Any = Shared(attrgetter("config.ws_ping_timeout"))
    connections: Any = Shared(attrgetter("_server_state.connections"))
    tasks: Any = Shared(attrgetter("_server_state.tasks"))
    default_headers: Any = Shared(attrgetter("_server_state.default_headers"))
    server: Any = None
    client: Any = None
    scheme: Any = None
    frames: Any = ()
    curr_msg_data_type: Any = "bytes"
    initial_response = None
    handshake_initiated = handshake_complete = read_paused = False
    close_sent = disconnected = False
    close_timer = ping_timer = pong_timer = pending_ping_payload = None
    close_timeout, ping_sent_at, last_ping_rtt = 10.0, 0.0, 0.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config = config
        self.app_state, self._server_state = app_state, server_state
        self._accept_key: str | None = None  # until an ordinary handshake is answered
        self._rest: memoryview | None = None  # bytes that are read but not parsed yet
        self._is_going_on = False
        self._connection = None
        if not (IS_KNOWN and config.loaded):
            self._begin_as_uvicorn()
        self.queue, self.writable = Inbox(), Gate()

    def _begin_as_uvicorn(self) -> None:
        """Set all that uvicorn sets, also a parser of websockets that reads the handshake."""
        super().__init__(self.config, self._server_state, self.app_state)
        self.queue, self.writable = Inbox(), Gate()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.raw = RawTransport(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # the objects of a connection refer to each other: the garbage collector may come much later
        self._rest = self._connection = None
        vars(self).pop("frames", None)

    @property
    def conn(self) -> ServerProtocol:
        """websockets' parser. It is made when something comes that is not ordinary, or must be sent."""
        if self._connection is None:
            self._connection = ServerProtocol(
                state=State.OPEN, max_size=self._most, logger=self.logger
            )
        return self._connection

    @conn.setter
    def conn(self, connection: ServerProtocol) -> None:
        self._connection = connection

    @property
    def _most(self) -> int | None:
        """The most bytes of a message."""
        most, own = self.config.ws_max_size, self.raw.most
        return most if own is None else min(own, most or own)

    # ------------------------------------------------------------- the way in

    def data_received(self, data: bytes) -> None:
        if self._rest is not None:  # uvicorn resumes reading when it closes
            self.transport.pause_reading()
            self._rest = memoryview(bytes(self._rest) + data)
            self._go_on_soon()
        elif len(data) > READ_SIZE and self.handshake_complete:
            # uvloop reads 256 kB at once, which can be five thousand tiny frames
            self._rest = memoryview(data)
            self.transport.pause_reading()
            self._go_on()
        elif self.handshake_initiated:
            self._receive(data)
        else:
            self._shake_hands(data)

    def _go_on(self) -> None:
        """Parse READ_SIZE bytes, and let the loop run others before the next step."""
        self._is_going_on = False
        rest = self._rest
        if rest is None or self.transport.is_closing():
            return
        self._rest = rest[READ_SIZE:] if len(rest) > READ_SIZE else None
        try:
            self._receive(bytes(rest[:READ_SIZE]))
        except Exception:
            self.transport.abort()  # as the loop does when ``data_received`` fails
            raise
        if self._rest is not None:
            self._go_on_soon()
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _go_on_soon(self) -> None:
        """Schedule the next step, unless messages wait for ``receive``, which then schedules it."""
        if not self._is_going_on and (self.queue.empty() or self.close_sent):
            self._is_going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    async def receive(self) -> Any:
        while self.queue.empty():
            await self.queue.filled()
        message = self.queue.get_nowait()
        if self.queue.empty():
            if self._rest is not None:
                self.read_paused = False
                self._go_on_soon()
            elif self.read_paused:
                self.read_paused = False
                # when the connection is lost, asyncio's transport with TLS would raise an error
                if self in self.connections:
                    self.transport.resume_reading()
        return message

    def _receive(self, data: bytes) -> None:
        """Handle the frames in `data`, from the first that is not ordinary on with websockets' parser."""
        at, most = 0, self._most
        while self._is_between_frames():
            frame = frames.read(data, at, most)
            if frame is None:
                break
            at = frame.end
            if frame.first == frames.PONG:
                self.handle_pong(Frame(Opcode.PONG, frame.payload))
            else:
                self._handle_text(frame.payload)
        if at < len(data):
            self.conn.max_message_size = most
            super().data_received(data[at:] if at else data)

    def _is_between_frames(self) -> bool:
        """Return whether a frame may be read here; let websockets' parser go if it keeps nothing."""
        connection = self._connection
        if connection is None or not IS_KNOWN:
            return connection is None
        if frames.is_between_frames(connection):
            self._connection = None
        return self._connection is None

    def _handle_text(self, payload: Any) -> None:
        is_next = not self.close_sent and self.queue.empty()
        if not (is_next and self._taken(payload)):
            super().handle_text(Frame(Opcode.TEXT, payload))

    def handle_text(self, event: Frame) -> None:
        if event.fin:
            self._handle_text(event.data)
        else:
            super().handle_text(event)

    def handle_cont(self, event: Frame) -> None:
        if IS_KNOWN:
            self.frames[:] = joined(self.frames)
        super().handle_cont(event)

    def _taken(self, data: Any) -> bool:
        """Pass a text message on at once if it can be handled now; return whether it was."""
        if self.raw.take is None:
            return False
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        return self.raw.take(text)

    # ----------------------------------------------------------- the handshake

    def _shake_hands(self, data: bytes) -> None:
        if RAW_TRANSPORT not in self.app_state:  # else websockets has begun to read it
            extensions = bool(self.config.ws_per_message_deflate)
            request = handshake.read(data, extensions) if IS_KNOWN else None
            if request is not None:
                return self._begin(request)
            self._leave_handshake_to_websockets()
        super().data_received(data)
        # a header (a token, a cookie) is too long: uvicorn would send no answer at all
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = True
            self.transport.write(UNREADABLE)
            self.transport.close()

    def _leave_handshake_to_websockets(self) -> None:
        # uvicorn copies it into scope["state"]
        self.app_state = {**self.app_state, RAW_TRANSPORT: self.raw}
        if self._connection is None:
            transport = self.transport
            self._begin_as_uvicorn()
            super().connection_made(transport)

    def _begin(self, request: handshake.Handshake) -> None:
        """Run the application for an ordinary handshake, with the scope that uvicorn makes."""
        self.handshake_initiated = True
        self._connection = None
        self._accept_key = request.accept
        path = request.path.decode()
        self.scope = {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + request.path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": {**self.app_state, RAW_TRANSPORT: self.raw},
            "extensions": {"websocket.http.response": {}},
        }
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def send(self, message: Any) -> None:
        if self._accept_key is not None and message["type"] == "websocket.accept":
            answer = handshake.answer(self._accept_key, message, self)
            if answer is not None and self._can_be_answered():
                return self._accept(answer)
            # uvicorn answers with websockets, as if that had read the handshake
            self.conn.state = State.CONNECTING
            self.response = handshake.response(self._accept_key)
        await super().send(message)
        if self._rest is not None and self.close_sent:
            self._go_on_soon()  # the close frame of the client may be in it already

    def _can_be_answered(self) -> bool:
        is_answered = self.handshake_complete or self.initial_response is not None
        is_gone = self.disconnected or self.transport.is_closing()
        return not is_answered and not is_gone and self.writable.is_set()

    def _accept(self, answer: bytes) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            client = get_client_addr(self.scope)
            path = get_path_with_query_string(self.scope)
            self.logger.info('%s - "WebSocket %s" [accepted]', client, path)
            self.logger.info("connection open")
        self.handshake_complete = True
        self.transport.write(answer)
        self.start_keepalive()

    def start_keepalive(self) -> None:
        # free what is not needed after the handshake
        self._accept_key = None
        vars(self).pop("request", None)
        vars(self).pop("response", None)
        super().start_keepalive()


#: what uvicorn's methods and ours both use
USED = {
    "app",
    "app_state",
    "close_sent",
    "config",
    "conn",
    "connections",
    "default_headers",
    "disconnected",
    "frames",
    "handshake_complete",
    "handshake_initiated",
    "initial_response",
    "queue",
    "read_paused",
    "tasks",
    "transport",
    "writable",
}


def _is_known(theirs: type[WebSocketsSansIOProtocol]) -> bool:
    """Return whether ``__init__`` of `theirs` sets what is USED, and nothing that is unknown here."""
    steps = dis.get_instructions(theirs.__init__)
    names = {step.argval for step in steps if step.opname == "STORE_ATTR"}
    known = (hasattr(PhoenixWebSocketProtocol, name) for name in names)
    return names >= USED and all(known)


IS_KNOWN = _is_known(WebSocketsSansIOProtocol)
