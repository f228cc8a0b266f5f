"""The checks of PHX_PROTOCOL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks.found import found_in


@pytest.mark.parametrize(
    "phx, django, found",
    [
        ([], {}, {"E001"}),
        ({"CHANELS": {}}, {}, {"E002"}),
        ({"TIMEOUT": "60"}, {}, {"E003"}),
        ({"TIMEOUT": 0}, {}, {"E003"}),
        ({"MAX_CHANNELS": True}, {}, {"E003"}),
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
        ({"STATE": 5}, {}, {"E003"}),
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
        ({"MAX_CONNECTIONS_PER_USER": "5"}, {}, {"E003"}),
        ({"CONNECT_RATE": "10/min", "TRUSTED_PROXIES": ["10.0.0.0/8"]}, {}, set()),
        ({"CONNECT_RATE": "often"}, {}, {"E013"}),
        ({"TRUSTED_PROXIES": ["unix", "::1", "192.0.2.7"]}, {}, set()),
        ({"TRUSTED_PROXIES": ["proxy.example.com"]}, {}, {"E018"}),
        ({"CONNECT_RATE": "1/s"}, {}, set()),
        ({"CONNECT_RATE": "1/s"}, {"USE_X_FORWARDED_HOST": True}, {"W008"}),
        (
            {"MAX_CONNECTIONS_PER_ADDRESS": 9},
            {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
            {"W008"},
        ),
        (
            {"CONNECT_RATE": "1/s", "TRUSTED_PROXIES": ["10.0.0.7"]},
            {"USE_X_FORWARDED_HOST": True},
            set(),
        ),
        ({"TRUSTED_PROXIES": "10.0.0.7"}, {}, {"E003"}),
        ({"MAX_CONNECTION_AGE": "1h"}, {}, {"E003"}),
        ({"FILTER_PARAMETERS": {"keep": ["room"]}}, {}, set()),
        ({"FILTER_PARAMETERS": {"only": ["room"]}}, {}, {"E014"}),
        ({"LOCAL_BUS": "yes"}, {}, {"E003"}),
    ],
)
def test_each_mistake_in_a_setting_is_found(
    phx: Any, django: dict[str, Any], found: set[str]
) -> None:
    assert found_in(phx, django) == found
