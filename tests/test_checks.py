from __future__ import annotations

from typing import Any, Literal

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings

from phx_protocol import Channel, Socket, event


class Plain(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class Joinless(Channel):
    pass


class Unspanned(Plain):
    @event("save")
    @transaction.atomic
    async def save(self, payload: Any) -> Any:
        return "ok"

    @event("fine")
    @transaction.atomic
    def fine(self, payload: Any) -> Any:
        return "ok"


class UnspannedSocket(Socket):
    @transaction.atomic(savepoint=False)
    async def connect(self, params: Any) -> None: ...


class Deaf(Plain):
    async def handle_out(self, event: str, payload: Any) -> None: ...


class Unknown(Plain):
    @event("new_msg")
    async def new_msg(self, payload: NotImported) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return "ok"


class Unchecked(Plain):
    pushes = {"new_msg": Plain}  # a class of which nobody knows how it is checked


class Answering(Plain):
    @event("new_msg")
    async def new_msg(self, payload: Any) -> tuple[Literal["ok"], Plain]:
        return "ok", self


class BadSocket(Socket):
    channels = {"a*b": Plain}
    check_origin = "no.such.function"


HERE = __name__
ROOM = {"room:*": f"{HERE}.Plain"}


MEMORY = "channels.layers.InMemoryChannelLayer"
REDIS = "phx_protocol.layers.RedisLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


def layer(backend: str, **config: Any) -> dict[str, Any]:
    return {"CHANNEL_LAYERS": {"default": {"BACKEND": backend, "CONFIG": config}}}


@pytest.mark.parametrize(
    "phx, django, found",
    [
        ({"CHANNELS": ROOM}, {}, set()),
        ([], {}, {"E001"}),
        ({"CHANELS": {}}, {}, {"E002"}),
        ({"TIMEOUT": "60"}, {}, {"E003"}),
        ({"TIMEOUT": 0}, {}, {"E003"}),
        ({"MAX_CHANNELS": True}, {}, {"E003"}),
        ({"CHANNELS": {"a*b": f"{HERE}.Plain"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": "no.such.Class"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": f"{HERE}.layer"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": f"{HERE}.Joinless"}}, {}, {"E005"}),
        ({"SOCKETS": {"socket": "phx_protocol.Socket"}}, {}, {"E006"}),
        ({"SOCKETS": {"/socket": f"{HERE}.Plain"}}, {}, {"E006"}),
        ({"SOCKETS": {"/socket": f"{HERE}.BadSocket"}}, {}, {"E004", "E008"}),
        ({"OUTBOUND": {"bytes": 10, "hard_bytes": 5}}, {}, {"E007"}),
        ({"OUTBOUND": {"messages": 10}}, {}, {"E007"}),
        ({"CHECK_ORIGIN": ["example.com"]}, {}, {"E008"}),
        ({"CHECK_ORIGIN": ["//[::1"]}, {}, {"E008"}),
        ({"CHECK_ORIGIN": ["http://a.test:port"]}, {}, {"E008"}),
        ({"CHECK_ORIGIN": ["null", "file://", "app://.", "//[::1]:80"]}, {}, set()),
        ({"SUBPROTOCOLS": ["mqtt", "v1.app"]}, {}, set()),
        ({"SUBPROTOCOLS": "mqtt"}, {}, {"E003"}),
        ({"SUBPROTOCOLS": ["mqtt, amqp"]}, {}, {"E003"}),
        ({"SUBPROTOCOLS": [5]}, {}, {"E003"}),
        ({"SERIALIZERS": {">= 2": "x.Y"}}, {}, {"E009"}),
        ({"STATE": "memory"}, {**layer(MEMORY), "DEBUG": True}, set()),
        ({"STATE": {"LEASE": 5}}, {}, set()),
        ({"STATE": 5}, {}, {"E003"}),
        ({"STATE": "postgres"}, {}, {"E015"}),
        ({"STATE": {"LEASES": 5}}, {}, {"E015"}),
        ({"STATE": {"LEASE": 0}}, {}, {"E015"}),
        ({"STATE": {"HOSTS": "redis://localhost"}}, {}, {"E015"}),
        ({"STATE": "redis"}, {**layer(MEMORY), "DEBUG": True}, {"E015"}),
        ({"STATE": {"HOSTS": ["redis://localhost"]}}, {}, set()),
        ({"STATE": "memory"}, {}, {"W006"}),
        ({"STATE": "auto"}, {}, set()),
        ({"STATE": "memory"}, layer("phx_protocol.layers.RedisLayer"), {"W006"}),
        ({"STATE": "auto"}, layer("phx_protocol.layers.RedisLayer"), set()),
        ({"LONGPOLL": True}, {}, set()),
        ({"LONGPOLL": "yes"}, {}, {"E003"}),
        ({"LONGPOLL": {"WINDOWS": 5}}, {}, {"E012"}),
        ({"LONGPOLL": {"WINDOW": "5"}}, {}, {"E012"}),
        ({"LONGPOLL": {"PATH": ""}}, {}, {"E012"}),
        ({"WEBSOCKET": {"PATH": "ws"}}, {}, set()),
        ({"WEBSOCKET": {"WINDOW": 5}}, {}, {"E012"}),
        ({"LONGPOLL": {"WINDOW": 20}}, {}, {"E012"}),
        ({"DRAINER": False}, {}, set()),
        ({"DRAINER": {"BATCH_SIZE": 10}}, {}, set()),
        ({"DRAINER": {"BATCH": 10}}, {}, {"E012"}),
        ({"DRAINER": {"SHUTDOWN": 0}}, {}, {"E012"}),
        ({"DRAINER": 10}, {}, {"E003"}),
        ({"THROTTLE": "20/s"}, {}, set()),
        ({"THROTTLE": "fast"}, {}, {"E013"}),
        ({"THROTTLE": {"*": "20"}}, {}, {"E013"}),
        ({"MAX_CONNECTIONS": 0}, {}, {"E003"}),
        ({"MAX_CONNECTION_AGE": "1h"}, {}, {"E003"}),
        ({"FILTER_PARAMETERS": {"keep": ["room"]}}, {}, set()),
        ({"FILTER_PARAMETERS": {"only": ["room"]}}, {}, {"E014"}),
        ({"CHANNEL_LAYER": "other"}, {}, {"E010"}),
        ({}, layer("no.such.Layer"), {"E011"}),
        ({}, {"CHANNEL_LAYERS": {}}, {"W001"}),
        ({}, layer("channels.layers.InMemoryChannelLayer"), {"W002"}),
        ({"LOCAL_BUS": True}, layer("channels.layers.InMemoryChannelLayer"), set()),
        ({"LOCAL_BUS": True}, {"CHANNEL_LAYERS": {}}, set()),
        ({"LOCAL_BUS": "yes"}, {}, {"E003"}),
        (
            {},
            layer("channels_redis.core.RedisChannelLayer", capacity=100),
            {"W003", "I001"},
        ),
        ({}, layer("channels_redis.core.RedisChannelLayer", capacity=1000), {"I001"}),
        ({}, layer(PUBSUB), {"I001"}),
        (
            {"CHANNELS": {"room:*": f"{HERE}.Plain", "room:a": f"{HERE}.Plain"}},
            {},
            {"W004"},
        ),
        ({"CHANNELS": {"a": f"{HERE}.Deaf"}}, {}, {"W005"}),
        ({"CHANNELS": {"a": f"{HERE}.Unspanned"}}, {}, {"W007"}),
        ({"SOCKETS": {"/a": f"{HERE}.UnspannedSocket"}}, {}, {"W007"}),
        ({"CHANNELS": {"a": f"{HERE}.Unknown"}}, {}, {"E016"}),
        ({"CHANNELS": {"a": f"{HERE}.Unchecked"}}, {}, {"E016"}),
        ({"CHANNELS": {"a": f"{HERE}.Answering"}}, {}, {"E016"}),
    ],
)
def test_each_misconfiguration_is_found(
    phx: Any, django: dict[str, Any], found: set[str]
) -> None:
    quiet = layer(REDIS)
    with override_settings(PHX_PROTOCOL=phx, **{**quiet, **django}):
        messages = run_checks(tags=["phx_protocol"])
    assert {str(message.id) for message in messages} == {
        f"phx_protocol.{name}" for name in found
    }
    assert all(
        message.hint
        for message in messages
        if message.id not in ("phx_protocol.E001", "phx_protocol.E011")
    )
