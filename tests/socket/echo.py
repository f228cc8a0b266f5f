"""A socket that answers with what it gets."""

from __future__ import annotations

from typing import Any

from phx_protocol import Channel, ConnectionRefused, Socket, event


class EchoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"params": self.params, "peer": self.socket.connect_info.peer}

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload


class EchoSocket(Socket):
    channels = {"room:*": EchoChannel}
    max_frame_size = 1000
    max_topic_length = 20
    max_channels = 3
    max_params = 5
    inbound = 10

    async def connect(self, params: dict[str, Any]) -> None:
        if "status" in params:
            headers = {"Retry-After": "60"}
            raise ConnectionRefused(int(params["status"]), "go away", headers)
        if "crash" in params:
            raise RuntimeError("crash")
