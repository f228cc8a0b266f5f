"""A Phoenix client that polls, for tests that run a live server; in all that matters as phoenix.js."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

#: seconds that anything may take
TIMEOUT = 30
#: lines of one POST
BATCH = 100
#: milliseconds between a session that is gone and the next, as phoenix.js has them
RECONNECT = (10, 50, 100, 150, 200, 250, 500, 1000, 2000)


class Answer(NamedTuple):
    """The result of a poll: its frames, the process that answered, and the session."""

    frames: list[list[Any]]
    upstream: str
    session: int


class SessionGone(Exception):
    """An answer after which phoenix.js opens a new session."""


class Poller:
    """``async with Poller(address) as client``: polls, and comes back by itself when it must.

    What it joined it joins again in every new session.
    """

    def __init__(self, address: str, mount: str = "/polled", **params: str) -> None:
        self.url = f"http://{address}{mount}/longpoll"
        self.params = {**params, "vsn": "2.0.0"}
        self.refs = itertools.count(1)
        #: every answer of every session, in order
        self.answers: list[Answer] = []
        #: who opened each session, so far
        self.homes: list[str] = []
        #: answers that ended in the middle; phoenix.js opens a new session then, and so do we
        self.cut_off = 0
        self.joined: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._join_refs: dict[str, str] = {}
        self._replies: dict[str, asyncio.Future[tuple[str, Any]]] = {}
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._token = ""

    async def __aenter__(self) -> Poller:
        limits = httpx.Timeout(TIMEOUT)
        self._http = httpx.AsyncClient(timeout=limits, trust_env=False)
        self._running = asyncio.create_task(self._run())
        await self.until(lambda: bool(self.homes))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        await self._http.aclose()

    # ------------------------------------------------------------------ for tests

    async def join(self, topic: str) -> None:
        """Join now, and in every session to come."""
        self._join_refs[topic] = ""
        self._send_join(topic)
        async with asyncio.timeout(TIMEOUT):
            await self.joined[topic].wait()

    async def push(self, topic: str, event: str, payload: Any = None) -> str:
        """Send when the topic is joined; what is lost with a session is not sent again."""
        async with asyncio.timeout(TIMEOUT):
            await self.joined[topic].wait()
        ref = str(next(self.refs))
        frame = [self._join_refs[topic], ref, topic, event, payload or {}]
        self._outbox.put_nowait(json.dumps(frame))
        return ref

    async def ask(self, topic: str, event: str, payload: Any = None) -> tuple[str, Any]:
        ref = await self.push(topic, event, payload)
        self._replies[ref] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT):
            return await self._replies[ref]

    def payloads(self, event: str) -> list[Any]:
        """The payloads of all that came with `event`, in order."""
        frames = itertools.chain.from_iterable(a.frames for a in self.answers)
        return [frame[4] for frame in frames if frame[3] == event]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that an answer, or a new session, makes true."""
        async with asyncio.timeout(TIMEOUT), self._changed:
            await self._changed.wait_for(condition)

    # ----------------------------------------------------------------- the client

    async def _run(self) -> None:
        for tries in itertools.count():
            try:
                await self._session()
            except (SessionGone, httpx.HTTPError) as error:
                self.cut_off += "without sending complete message body" in str(error)
            self.joined.clear()
            await self._notify()
            await asyncio.sleep(RECONNECT[min(tries, len(RECONNECT) - 1)] / 1000)

    async def _session(self) -> None:
        """One session, up to its end. Raises SessionGone, HTTPError."""
        self._token, self._outbox = "", asyncio.Queue()
        answer, upstream = await self._get()
        if answer["status"] != 410:
            raise SessionGone
        self._token = answer["token"]
        self.homes.append(upstream)
        for topic in self._join_refs:
            self._send_join(topic)
        await self._notify()
        tasks = [
            asyncio.ensure_future(self._poll()),
            asyncio.ensure_future(self._post()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self) -> tuple[dict[str, Any], str]:
        params = {**self.params, "token": self._token}
        response = await self._http.get(self.url, params=params)
        return _read(response), response.headers.get("x-upstream", "")

    async def _poll(self) -> None:
        while True:
            answer, upstream = await self._get()
            if answer["status"] not in (200, 204):
                raise SessionGone
            self._token = answer["token"]
            frames = [json.loads(message) for message in answer["messages"]]
            # the last one: the one before did not answer
            upstream = upstream.split(", ")[-1]
            self.answers.append(Answer(frames, upstream, len(self.homes)))
            for frame in frames:
                self._take(frame)
            await self._notify()

    def _take(self, frame: list[Any]) -> None:
        _, ref, topic, event, payload = frame
        if event != "phx_reply":
            return
        if ref == self._join_refs.get(topic) and payload["status"] == "ok":
            self.joined[topic].set()
        if ref in self._replies:
            reply = self._replies.pop(ref)
            reply.set_result((payload["status"], payload["response"]))

    async def _post(self) -> None:
        """One POST at a time, with all that waits for it."""
        while True:
            lines = [await self._outbox.get()]
            while not self._outbox.empty() and len(lines) < BATCH:
                lines.append(self._outbox.get_nowait())
            response = await self._http.post(
                self.url,
                params={**self.params, "token": self._token},
                headers={"content-type": "application/x-ndjson"},
                content="\n".join(lines),
            )
            if _read(response)["status"] != 200:
                raise SessionGone

    def _send_join(self, topic: str) -> None:
        ref = self._join_refs[topic] = str(next(self.refs))
        payload = self.join_payload(topic, ref)
        self._outbox.put_nowait(json.dumps([ref, ref, topic, "phx_join", payload]))

    def join_payload(self, topic: str, ref: str) -> dict[str, Any]:
        """Return the reply to a join of `topic`, which is sent with `ref`."""
        return {}

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _read(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise SessionGone
    return dict(response.json())


class RawSession:
    """A session whose every request is a TCP connection in the hands of the test."""

    def __init__(self, mount: str = "/polled") -> None:
        self.path = f"{mount}/longpoll?vsn=2.0.0"
        self.token = ""
        self.refs = itertools.count(1)

    async def open(self, port: int) -> None:
        self.token = (await self.poll(port))["token"]

    async def send(self, port: int, *frames: list[Any]) -> dict[str, Any]:
        """POST `frames` to `port`."""
        body = "\n".join(json.dumps(frame) for frame in frames).encode()
        request = await self.request(port, "POST", body=body)
        return await request.answer()

    async def poll(self, port: int) -> dict[str, Any]:
        """A poll that is read to its end."""
        return await (await self.request(port, "GET")).answer()

    async def request(
        self,
        port: int,
        method: str,
        query: str = "",
        body: bytes = b"",
        receive_buffer: int | None = None,
    ) -> RawRequest:
        """`receive_buffer`: bytes that the kernel takes before the test does."""
        own = socket.socket()
        if receive_buffer is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=own)
        writer.write(
            f"{method} {self.path}&token={self.token}{query} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nConnection: close\r\n"
            "Content-Type: application/x-ndjson\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        return RawRequest(reader, writer)


class RawRequest:
    """A request that was sent, and what becomes of its connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> dict[str, Any]:
        """The body, once the server has closed."""
        answer = await self.rest()
        assert answer is not None
        return answer

    async def rest(self, begun: bytes = b"") -> dict[str, Any] | None:
        """Return what the server wrote after `begun` until its end: a whole answer, or None.

        The last byte of a body is written only for a client that is there.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                data = begun + await self.reader.read()
        finally:
            self.writer.close()
        if not data:
            return None
        head, body = data.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200"), head
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        if len(body) < int(length):
            return None
        return dict(json.loads(body))

    def reset(self) -> None:
        """Abort: the other side reads a reset, and what it writes comes nowhere."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def messages(answer: dict[str, Any] | None) -> list[list[Any]]:
    """The frames of an answer to a poll."""
    return [json.loads(message) for message in (answer or {}).get("messages", ())]
