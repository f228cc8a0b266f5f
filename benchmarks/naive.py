"""Baseline N: what a Django developer writes by hand, one consumer per socket, a group per topic.

PHX_REDIS_URL=redis://127.0.0.1:6379/0 uvicorn benchmarks.naive:application
"""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

REDIS = os.environ["PHX_REDIS_URL"]

settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS]},
        }
    },
    LOGGING_CONFIG=None,
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

urlpatterns: list[Any] = []


def group_of(topic: str) -> str:
    return topic.replace(":", ".")


class PhoenixConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.topics: dict[str, str] = {}
        await self.accept()

    async def disconnect(self, code: int) -> None:
        for topic in self.topics:
            await self.channel_layer.group_discard(group_of(topic), self.channel_name)

    async def receive_json(self, content: list[Any], **kwargs: Any) -> None:
        join_ref, ref, topic, event, payload = content
        response, status = {}, "ok"
        if event == "phx_join":
            self.topics[topic] = join_ref
            await self.channel_layer.group_add(group_of(topic), self.channel_name)
        elif event == "phx_leave":
            self.topics.pop(topic, None)
            await self.channel_layer.group_discard(group_of(topic), self.channel_name)
        elif topic != "phoenix" and topic not in self.topics:
            response, status = {"reason": "unmatched topic"}, "error"
        elif event == "echo":
            response = payload
        elif event == "shout":
            return await self.broadcast(topic, "shout", payload)
        elif event == "blast":
            for i in range(payload["count"]):
                await self.broadcast(topic, "m", {"i": i, "p": payload["payload"]})
        reply = {"status": status, "response": response}
        await self.send_json([join_ref, ref, topic, "phx_reply", reply])
        if event == "phx_leave":
            await self.send_json([join_ref, join_ref, topic, "phx_close", {}])

    async def broadcast(self, topic: str, event: str, payload: Any) -> None:
        message = {"topic": topic, "event": event, "payload": payload}
        await self.channel_layer.group_send(
            group_of(topic), {"type": "phx.broadcast", **message}
        )

    async def phx_broadcast(self, message: dict[str, Any]) -> None:
        topic, event, payload = message["topic"], message["event"], message["payload"]
        await self.send_json([None, None, topic, event, payload])


consumer: Any = PhoenixConsumer.as_asgi()
route: Any = path("socket/websocket", consumer)
application = ProtocolTypeRouter({"websocket": URLRouter([route])})
