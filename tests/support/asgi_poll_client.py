"""A long-poll client for tests: requests straight to the ASGI application of a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from channels.testing import ApplicationCommunicator

from phx_protocol import LongPollConsumer, Socket

NDJSON = "application/x-ndjson"
JSON = "application/json"


class Request:
    """One request under way."""

    def __init__(
        self,
        socket_class: type[Socket],
        method: str,
        query: bytes = b"",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        path: str = "/socket/longpoll",
        root_path: str = "",
    ) -> None:
        pairs = {"host": "testserver", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": root_path,
            "query_string": query,
            "headers": [(k.lower().encode(), v.encode()) for k, v in pairs.items()],
        }
        application = LongPollConsumer.as_asgi(socket=socket_class)
        self._communicator = ApplicationCommunicator(application, scope)
        self._body = body
        self.status = 0
        self.headers: dict[str, str] = {}

    async def send_part(self, body: bytes) -> None:
        """A part of the body; the last one is sent by nobody."""
        await self._communicator.send_input(
            {"type": "http.request", "body": body, "more_body": True}
        )

    async def send(self) -> Request:
        await self._communicator.send_input(
            {"type": "http.request", "body": self._body}
        )
        return self

    async def disconnect(self) -> None:
        """Go, and wait until the application knows."""
        await self._communicator.send_input({"type": "http.disconnect"})
        await self._communicator.wait(2)

    async def body(self, timeout: float = 5) -> bytes:
        start = await self._communicator.receive_output(timeout)
        self.status = start["status"]
        self.headers = {k.decode(): v.decode() for k, v in start["headers"]}
        body = b""
        while True:
            part = await self._communicator.receive_output(timeout)
            body += part["body"]
            if not part.get("more_body"):
                await self._communicator.wait(2)
                return body

    async def answer(self, timeout: float = 5) -> dict[str, Any]:
        """The JSON of the answer."""
        return json.loads(await self.body(timeout))  # type: ignore[no-any-return]


class Client:
    """A client that does what phoenix.js does over long-poll, one step at a time."""

    def __init__(
        self,
        socket_class: type[Socket],
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        path: str = "/socket/longpoll",
        root_path: str = "",
    ) -> None:
        self.socket_class = socket_class
        self.path = path
        self.root_path = root_path
        self.params = {"vsn": "2.0.0", **(params or {})}
        self.headers = headers or {}
        self.token: str | None = None
        self._waiting: list[Any] = []

    def request(
        self, method: str, body: bytes = b"", content_type: str = NDJSON
    ) -> Request:
        # behind those of the application, as phoenix.js has it
        params = [
            *self.params.items(),
            *([("token", self.token)] if self.token else []),
        ]
        headers = {**self.headers, "content-type": content_type}
        query = urlencode(params).encode()
        return Request(
            self.socket_class,
            method,
            query,
            headers,
            body,
            path=self.path,
            root_path=self.root_path,
        )

    async def open(self) -> dict[str, Any]:
        self.token = None
        answer = await (await self.request("GET").send()).answer()
        self.token = answer.get("token")
        return answer

    async def poll(self) -> dict[str, Any]:
        """The answer of a poll, its messages decoded."""
        answer = await (await self.request("GET").send()).answer()
        answer["messages"] = [json.loads(m) for m in answer.get("messages", ())]
        return answer

    async def start_poll(self) -> Request:
        """A poll that waits; returns when the application waits with it."""
        request = await self.request("GET").send()
        for _ in range(10):
            await asyncio.sleep(0)
        return request

    async def post(self, *frames: Any) -> dict[str, Any]:
        """Frames as phoenix.js sends them: text as JSON, bytes in base64, a line each."""
        lines = [json.dumps(frame).encode() for frame in frames]
        return await self.post_body(b"\n".join(lines))

    async def post_body(
        self, body: bytes, content_type: str = NDJSON
    ) -> dict[str, Any]:
        request = await self.request("POST", body, content_type).send()
        return await request.answer()

    async def receive(self) -> Any:
        """The next frame, polling for it."""
        while not self._waiting:
            answer = await self.poll()
            assert answer["status"] in (200, 204), answer
            self._waiting += answer["messages"]
        return self._waiting.pop(0)

    async def join(self, topic: str, payload: Any = None) -> Any:
        """Join, and return the reply."""
        await self.post(["1", "1", topic, "phx_join", payload or {}])
        return (await self.receive())[4]
