"""Metrics: Prometheus gets the right counts, of one process and of several."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import RequestFactory
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from phx_protocol import ConnectionRefused, JoinDenied, Presence, abroadcast, signals
from phx_protocol.contrib import prometheus
from phx_protocol.contrib.prometheus import counters, gauges
from phx_protocol.node.node import get_node
from phx_protocol.testing import connect
from tests.contrib.prometheus.counted import (
    DOORS,
    ROOM,
    Values,
    counted,
    expected,
    values,
)
from tests.contrib.rooms import Doors
from tests.support import servers
from tests.support.tables import table
from tests.support.ws_client import TIMEOUT, Client

__all__ = ["counted"]


DOCS = servers.ROOT / "docs"


async def test_results_of_connections_are_counted(counted: Any) -> None:
    client = await connect(Doors)
    await client.close()
    for params in ({"refuse": "1"}, {"crash": "1"}, {"vsn": "9"}):
        with pytest.raises(ConnectionRefused):
            await connect(Doors, params)
    gauges.sample()
    assert counted() == expected(
        phx_socket_connects_total={
            "ok Doors websocket": 1,
            "refused Doors websocket": 1,
            "crashed Doors websocket": 1,
        },
        phx_socket_disconnects_total={"1000 Doors": 1},
        phx_refusals_total={"403": 2, "500": 1},
    )


@pytest.mark.parametrize(
    ("code", "label"),
    [(1001, "1001"), (1006, "1006"), (4321, "other"), (1004, "other"), (None, "none")],
)
async def test_a_close_code_that_a_client_made_up_is_no_label(
    counted: Any, code: int | None, label: str
) -> None:
    client = await connect(Doors)
    gone = {"type": "websocket.disconnect", "code": code}
    await client.communicator.asgi.send_input(gone)
    client.close_code = code or 1005
    await client.close()
    assert counted()[f"phx_socket_disconnects_total {label} {DOORS}"] == 1


async def test_results_of_joins_are_counted(counted: Any) -> None:
    client = await connect(Doors)
    await (await client.join("room:lobby")).leave()
    for subtopic in ("denied", "forbidden", "crash"):
        with pytest.raises(JoinDenied):
            await client.join(f"room:{subtopic}")
    await client.join("room:lobby")
    await client.close()
    assert counted() == expected(
        phx_socket_connects_total={"ok Doors websocket": 1},
        phx_socket_disconnects_total={"1000 Doors": 1},
        phx_joins_total={
            "Room ok": 2,
            "Room error": 1,
            "Room refused": 1,
            "Room crashed": 1,
        },
        phx_join_seconds_count={"Room": 5},
        phx_leaves_total={"Room left": 1, "Room closed": 1},
        phx_channel_crashes_total={"Room": 1},
        phx_refusals_total={"unauthorized": 1, "join crashed": 1},
    )


async def test_no_event_and_no_status_of_a_client_is_a_label(counted: Any) -> None:
    client = await connect(Doors)
    room = await client.join("room:lobby")
    for status in ("ok", "error", "made up"):
        ref = await room.push("answer", {"status": status})
        await room.assert_reply(ref, status)
    for n in range(3):
        await room.assert_reply(await room.push(f"made up {n}"), "error")
    await room.push("crash")
    await room.assert_ended(crashed=True)
    counts = counted()
    await client.close()
    events = {k: v for k, v in counts.items() if "_events_" in k or "_replies_" in k}
    assert events == expected(
        phx_events_total={"Room answer": 3, "Room other": 3, "Room crash": 1},
        phx_replies_total={"Room ok": 1, "Room error": 4, "Room other": 1},
    )
    assert counts[f"phx_event_seconds_count {ROOM}"] == 7
    assert counts[f"phx_channel_crashes_total {ROOM}"] == 1
    assert not any("made up" in line for line in values(REGISTRY.collect()))


async def test_broadcasts_and_their_deliveries_are_counted(counted: Any) -> None:
    clients = [await connect(Doors) for _ in range(3)]
    rooms = [await client.join("room:lobby") for client in clients]
    # the test listens beside each of its clients
    for n in range(5):
        await abroadcast("room:lobby", "new", {"n": n})
    await abroadcast("room:empty", "new", {})
    assert await rooms[2].assert_push("new", {"n": 4})
    counts = counted()
    for client in clients:
        await client.close()
    assert counts["phx_broadcasts_total"] == 6
    assert counts["phx_broadcast_bytes_total"] == 5 * len('{"n":1}') + len("{}")
    assert counts["phx_deliveries_total"] == 5 * 6
    assert counts["phx_broadcast_latency_seconds_count"] == 6


async def test_changes_are_measured_by_the_pattern_of_their_topic(
    counted: Any, settings: Any
) -> None:
    """Clients make up topics: a pattern is one of the project's."""
    settings.PHX_PROTOCOL = {"CHANNELS": {"room:*": ROOM}}
    for topic in ("room:1", "room:2", "made up"):
        change = {"topic": topic, "event": "said", "latency": 0.3, "unsent": 0.0}
        signals.change_delivered.emit(None, **change)
    sums = {
        dict(sample.labels)["pattern"]: sample.value
        for sample in counters.CHANGE_LATENCY.collect()[0].samples
        if sample.name.endswith("_count")
    }
    assert sums["room:*"] == 2 and sums["other"] == 1


async def test_the_outbox_is_counted(counted: Any) -> None:
    signals.outbox_sent.emit(None, database="default", count=3)
    aside = {"database": "default", "row": 1, "topic": "t", "event": "e"}
    signals.outbox_set_aside.emit(None, **aside, reason="no")
    signals.outbox_waiting.emit(None, database="default", count=7, age=1.5)
    assert counted() == expected(
        phx_outbox_sent_total={"default": 3},
        phx_outbox_set_aside_total={"default": 1},
        phx_outbox_waiting={"default": 7},
        phx_outbox_age_seconds={"default": 1.5},
    )


async def test_presences_drops_and_outages_are_counted(counted: Any) -> None:
    class Guests(Presence):
        pass

    guests = f"{__name__}.{Guests.__qualname__}"
    named = {"topic": "t", "joins": {"a": {}, "b": {}}, "leaves": {"c": {}}}
    signals.presence_changed.emit(Guests, **named)
    signals.messages_dropped.emit(None, count=3, where="outbound")
    outage = get_node().link.outage
    for error in (OSError("away"), OSError("away"), None, OSError("away"), None):
        outage.report(error)
    signals.state_failed.emit(None, error=OSError("away"))
    assert counted() == {
        f"phx_presence_joins_total {guests}": 2,
        f"phx_presence_leaves_total {guests}": 1,
        "phx_messages_dropped_total outbound": 3,
        "phx_outages_total layer": 2,
        "phx_outages_total state": 1,
    }


# ------------------------------------------------------------------------- the view


def test_the_view_speaks_both_languages_of_prometheus(counted: Any) -> None:
    counters.JOINS.labels("a.Room", "ok").inc()
    plain = prometheus.metrics(RequestFactory().get("/metrics"))
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = b'phx_joins_total{channel="a.Room",result="ok"}'
    assert line in plain.content
    accept = "application/openmetrics-text;version=1.0.0"
    request = RequestFactory().get("/metrics", headers={"accept": accept})
    modern = prometheus.metrics(request)
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert line in modern.content and modern.content.endswith(b"# EOF\n")
    assert prometheus.metrics(RequestFactory().post("/metrics")).status_code == 405


@pytest.mark.parametrize(
    ("app", "library", "extra"),
    [
        ("prometheus", "prometheus_client", "prometheus"),
        ("opentelemetry", "opentelemetry", "opentelemetry"),
    ],
)
def test_an_error_names_the_extra_with_the_missing_library(
    app: str, library: str, extra: str
) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None  # as if it were not installed
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["phx_protocol", "phx_protocol.contrib.{app}"])
django.setup()
"""
    last = servers.python(code).stderr.strip().splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert last.endswith(f"pip install 'phx_protocol[{extra}]'")


# ------------------------------------------------------------------------- the docs


def known_names() -> set[str]:
    families = [f for f in REGISTRY.collect() if f.name.startswith("phx_")]
    return {f"{f.name}_total" if f.type == "counter" else f.name for f in families}


def test_every_metric_is_explained_and_no_other() -> None:
    page = (DOCS / "metrics.md").read_text()
    assert table("Prometheus", page) == known_names()


def test_every_signal_is_explained_and_no_other() -> None:
    every = {n for n, s in vars(signals).items() if isinstance(s, signals.Signal)}
    assert table("Signals", (DOCS / "metrics.md").read_text()) == every


def test_the_dashboard_shows_metrics_that_exist() -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    shown = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", ())]
    names = {name for expr in shown for name in re.findall(r"phx_\w+", expr)}
    parts = {f"{name}_{part}" for name in known_names() for part in ("bucket", "count")}
    assert names and names <= known_names() | parts


# -------------------------------------------------------------- on several processes


async def scraped(server: servers.Server) -> Values:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://{server.address}/metrics")
    assert answer.status_code == 200
    return values(text_string_to_metric_families(answer.text))


async def until(server: servers.Server, name: str, least: float) -> None:
    """Scrape until `name` is as much."""
    async with asyncio.timeout(TIMEOUT):
        while (await scraped(server))[name] < least:
            pass


async def assert_scraped(server: servers.Server, wanted: Values) -> None:
    """Assert that scrapes come to be just that: gauges are some seconds old."""
    seen: Values = Counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT):
            while seen != wanted:
                seen = +(await scraped(server))
    assert seen == wanted


@pytest.fixture
def gunicorn(redis_url: str, tmp_path: Path) -> Iterator[servers.Server]:
    """Two workers, which share what they count."""
    port, shared = servers.free_port(), tmp_path / "metrics"
    shared.mkdir()
    args = ["gunicorn", "tests.contrib.metrics_asgi", "-b", f"127.0.0.1:{port}"]
    args += ["-w", "2", "-k", "uvicorn_worker.UvicornWorker", "--no-control-socket"]
    args += ["-c", "tests/contrib/gunicorn_conf.py"]
    env = {"PHX_REDIS_URL": redis_url, "PROMETHEUS_MULTIPROC_DIR": str(shared)}
    command = [sys.executable, "-m", *args]
    with servers.run(command, port, tmp_path / "log", **env) as running:
        yield running


async def on_both(
    stack: AsyncExitStack, server: servers.Server
) -> dict[int, list[Client]]:
    """Clients in one room, by the process that has them: some for each of the two."""
    clients: dict[int, list[Client]] = {}
    while len(clients) < 2 or sum(map(len, clients.values())) < 4:
        client = await stack.enter_async_context(Client(server.url))
        status, reply = await client.join("room:lobby")
        assert status == "ok"
        clients.setdefault(reply["pid"], []).append(client)
    return clients


async def test_a_scrape_has_the_exact_counts_of_all_workers(
    gunicorn: servers.Server,
) -> None:
    async with AsyncExitStack() as stack:
        by_worker = await on_both(stack, gunicorn)
        clients = [c for group in by_worker.values() for c in group]
        count = len(clients)
        for params in ({"refuse": "1"}, {"refuse": "2"}, {"crash": "1"}):
            with pytest.raises(Exception, match="HTTP (403|500)"):
                await Client(gunicorn.url, **params).__aenter__()
        for group in by_worker.values():
            for topic in ("room:denied", "room:forbidden", "room:crash"):
                assert (await group[0].join(topic))[0] == "error"
            assert (await group[0].ask("room:lobby", "made up"))[0] == "error"
            status = {"status": "odd"}
            assert (await group[0].ask("room:lobby", "answer", status))[0] == "odd"
            for n in range(10):
                assert (await group[0].ask("room:lobby", "say", {"n": n}))[0] == "ok"
        await until(gunicorn, "phx_deliveries_total", 20 * count)
        await clients[0].push("room:lobby", "crash")
        await clients[0].until("phx_error")
        counts = expected(
            phx_socket_connects_total={
                "ok Doors websocket": count,
                "refused Doors websocket": 2,
                "crashed Doors websocket": 1,
            },
            phx_joins_total={
                "Room ok": count,
                "Room error": 2,
                "Room refused": 2,
                "Room crashed": 2,
            },
            phx_join_seconds_count={"Room": count + 6},
            phx_events_total={
                "Room say": 20,
                "Room answer": 2,
                "Room other": 2,
                "Room crash": 1,
            },
            phx_event_seconds_count={"Room": 25},
            phx_replies_total={"Room ok": 20, "Room error": 2, "Room other": 2},
            phx_channel_crashes_total={"Room": 3},
            phx_broadcasts_total=20,
            phx_broadcast_bytes_total=20 * len('{"n":1}'),
            phx_deliveries_total=20 * count,
            phx_broadcast_latency_seconds_count=20 * 2,
        )
        counts["phx_refusals_total 403"] = 2
        counts["phx_refusals_total 500"] = 1
        counts["phx_refusals_total unauthorized"] = 2
        counts["phx_refusals_total join crashed"] = 2
        counts["phx_refusals_total unhandled event"] = 2
        counts["phx_refusals_total channel_crash"] = 1
        sockets = {"Doors websocket": count}
        here = expected(phx_sockets=sockets, phx_channels={"Room": count - 1})
        crashed = expected(phx_leaves_total={"Room crash": 1})
        await assert_scraped(gunicorn, counts + here + crashed)
    gone = expected(
        phx_socket_disconnects_total={"1000 Doors": count},
        phx_leaves_total={"Room closed": count - 1},
    )
    await assert_scraped(gunicorn, counts + crashed + gone)


async def test_a_worker_that_is_killed_takes_its_sockets_along(
    gunicorn: servers.Server,
) -> None:
    async with AsyncExitStack() as stack:
        by_worker = await on_both(stack, gunicorn)
        (victim, theirs), (_, others) = by_worker.items()
        flooded = others[0]
        flooded.ws.transport.pause_reading()
        await flooded.push("room:lobby", "flood")
        await until(gunicorn, "phx_buffered_bytes", 1_000_000)
        await until(gunicorn, "phx_buffered_bytes_max", 1_000_000)
        flooded.ws.transport.resume_reading()
        for _ in range(20):
            await flooded.until("water")
        os.kill(victim, signal.SIGKILL)
        for client in theirs:
            assert await client.closed() == 1006
        here = expected(
            phx_sockets={"Doors websocket": len(others)},
            phx_channels={"Room": len(others)},
        )
        count = len(others) + len(theirs)
        counts = expected(
            phx_socket_connects_total={"ok Doors websocket": count},
            phx_joins_total={"Room ok": count},
            phx_join_seconds_count={"Room": count},
            phx_events_total={"Room flood": 1},
            phx_event_seconds_count={"Room": 1},
        )
        await assert_scraped(gunicorn, here + counts)
