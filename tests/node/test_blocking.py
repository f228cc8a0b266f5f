"""Calls of synchronous code: the loop on which they run, and the warning if they reach no client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import servers

MANY = """
import os, django, redis
django.setup()
from phx_protocol import broadcast
client = redis.Redis.from_url(os.environ["PHX_REDIS_URL"])
def connections():
    return client.info("stats")["total_connections_received"]
broadcast("room:1", "first", {})
before = connections()
for i in range(COUNT):
    broadcast("room:1", "m", {"i": i})
assert connections() - before <= 1, connections() - before
child = os.fork()
if child == 0:
    for i in range(100):
        broadcast("room:1", "m", {"i": i})
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
broadcast("room:1", "m", {})
assert connections() - before <= 6, connections() - before
"""


@pytest.mark.parametrize("layer", ["redis", "pubsub", "core"])
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.big)])
def test_many_broadcasts_of_a_worker_share_one_loop_and_its_connections(
    layer: str, count: int, redis_url: str
) -> None:
    env = {
        "PHX_LAYER": layer,
        "PHX_REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "tests.conformance.settings",
    }
    code = MANY.replace("COUNT", str(count))
    done = servers.python(code, env, timeout=300)
    assert done.returncode == 0, done.stderr


SHELL = """
import django
from django.conf import settings
settings.configure(
    DEBUG={debug},
    INSTALLED_APPS=["channels", "phx_protocol"],
    CHANNEL_LAYERS={layers},
)
django.setup()
import asyncio
from phx_protocol import *
from phx_protocol.presence import Presence
for _ in range(2):
    {call}
"""
IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


def in_a_shell(call: str, debug: bool = True, layers: Any = IN_MEMORY) -> str:
    """Return what it prints to stderr."""
    code = SHELL.format(call=call, debug=debug, layers=layers)
    return servers.python(code, check=True).stderr


@pytest.mark.parametrize(
    "name, call",
    [
        ("broadcast", "broadcast('room:1', 'news', {})"),
        ("abroadcast", "asyncio.run(abroadcast('room:1', 'news', {}))"),
        ("disconnect_user", "disconnect_user(7)"),
        ("Presence.sync.track", "Presence.sync.track('room:1', str(_), {})"),
    ],
)
def test_a_call_that_reaches_no_client_warns_once(name: str, call: str) -> None:
    said = in_a_shell(call)
    assert said.count(f"{name}() reaches nobody: this process serves no sockets") == 1
    assert "the channel layer is in memory" in said


def test_a_process_without_a_layer_is_warned_too_but_not_in_production() -> None:
    call = "close_topic('room:1'); reauthorize(); disconnect('users:7')"
    assert in_a_shell(call, layers={}).count("close_topic() reaches nobody") == 1
    assert in_a_shell(call, debug=False) == ""


def test_a_server_without_clients_is_not_warned() -> None:
    mount = "from phx_protocol.asgi import get_phoenix_application as get; get({'/socket': Socket})"
    assert in_a_shell(f"{mount}; broadcast('room:1', 'news', {{}})") == ""
