"""The checks of the channel layer and the state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks.found import found_in, layer

MEMORY = "channels.layers.InMemoryChannelLayer"
CLUSTER = "redis+cluster://10.0.0.1:6379"
OURS = "phx_protocol.layers.RedisLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


@pytest.mark.parametrize(
    "phx, django, found",
    [
        ({"STATE": "memory"}, {**layer(MEMORY), "DEBUG": True}, set()),
        ({"STATE": {"LEASE": 5}}, {}, set()),
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
        ({"CHANNEL_LAYER": "other"}, {}, {"E010"}),
        ({}, layer("no.such.Layer"), {"E011"}),
        ({}, {"CHANNEL_LAYERS": {}}, {"W001"}),
        ({}, layer("channels.layers.InMemoryChannelLayer"), {"W002"}),
        ({"LOCAL_BUS": True}, layer("channels.layers.InMemoryChannelLayer"), set()),
        ({"LOCAL_BUS": True}, {"CHANNEL_LAYERS": {}}, set()),
        (
            {},
            layer("channels_redis.core.RedisChannelLayer", capacity=100),
            {"W003", "I001"},
        ),
        ({}, layer("channels_redis.core.RedisChannelLayer", capacity=1000), {"I001"}),
        ({}, layer(PUBSUB), {"I001"}),
        ({}, layer(PUBSUB, hosts=[CLUSTER]), {"I001", "E020"}),
        ({}, layer(OURS, hosts=[CLUSTER]), set()),
        ({}, layer(OURS, hosts=[f"{CLUSTER}/7"]), {"E011"}),
        ({}, layer(OURS, hosts=[{"address": CLUSTER, "username": "ada"}]), set()),
        ({"STATE": {"HOSTS": [f"{CLUSTER}/7"]}}, layer(OURS), {"E015"}),
    ],
)
def test_each_mistake_in_the_layer_and_the_state_is_found(
    phx: Any, django: dict[str, Any], found: set[str]
) -> None:
    assert found_in(phx, django) == found
