"""phoenix.js as npm has it, in four ages, under Node against live servers."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers

HERE = Path(__file__).parent
APPLICATION = "tests.clients.asgi:application"
SERVERS = ["daphne", "uvicorn"]
EVERYWHERE = [
    "connects",
    "is refused by connect",
    "joins",
    "is denied a join",
    "stays away when a join is denied for good",
    "learns that no channel matches the topic",
    "gets a push just after the join",
    "gets a reply to a push",
    "gets an error reply to a push",
    "sees a push that nobody answers time out",
    "chats with another client",
    "whispers to the others only",
    "leaves and joins again",
    "joins again by itself when the channel crashed",
    "stays away when the channel stopped",
]
ASKS_AGAIN = ["asks again and again when a join is denied"]  # 1.2.1 does not
RECONNECTS = ["reconnects and joins again when the server disconnects it"]
HEARTBEATS = ["has its heartbeats answered"]
TOKENS = ["has its auth token seen by the server"]
BYTES = ["has bytes echoed", "gets bytes pushed", "gets bytes broadcast"]
# over long-poll, phoenix.js sends no heartbeats, and no server can send it bytes
POLLS = [
    "has its pings answered",
    "goes on after polls that brought nothing",
    "is spared the bytes of others and goes on",
]
SENDS_BYTES = ["sends bytes but is spared those of the reply"]
BEFORE_NDJSON = [
    "loses its session over bytes and joins again",
    "has a new session to join in when the server disconnects it",
]
SINCE_V1 = EVERYWHERE + RECONNECTS + HEARTBEATS
SINCE_1_8 = SINCE_V1 + ASKS_AGAIN + TOKENS + BYTES
# the npm package of tests/package.json and the transport; 1.2.1 speaks V1, which has no bytes,
# and understands no long-poll but that of its age
RUNS = {
    ("phoenix", "WebSocket"): SINCE_1_8,
    ("phoenix-1.8.12", "WebSocket"): SINCE_1_8,
    ("phoenix-1.2.1", "WebSocket"): SINCE_V1,
    ("phoenix", "LongPoll"): (
        EVERYWHERE + ASKS_AGAIN + RECONNECTS + TOKENS + POLLS + SENDS_BYTES
    ),
    ("phoenix-1.6", "LongPoll"): EVERYWHERE + ASKS_AGAIN + POLLS + BEFORE_NDJSON,
}

Checks = dict[str, dict[str, Any]]
CASES = [(*run, name) for run, names in RUNS.items() for name in names]
POLLERS = [client for client, transport in RUNS if transport == "LongPoll"]


def node(script: str, **config: Any) -> list[str]:
    return ["node", str(HERE / script), json.dumps(config)]


def run_scenarios(url: str, client: str, transport: str) -> Checks:
    """All scenarios of one client over one transport: name -> what the Node script said of it."""
    names = RUNS[client, transport]
    command = node(
        "scenarios.mjs", url=url, package=client, transport=transport, scenarios=names
    )
    try:
        ran = subprocess.run(command, capture_output=True, timeout=60)
        said, ending = ran.stdout, ran.stderr.decode() if ran.returncode else ""
    except subprocess.TimeoutExpired as late:
        said, ending = late.stdout or b"", str(late)
    checks = {check["name"]: check for check in map(json.loads, said.splitlines())}
    if ending:
        checks["the end of the script"] = {"ok": False, "detail": ending}
    return checks


@pytest.fixture(
    scope="module",
    params=[*SERVERS, pytest.param("uvicorn-cluster", marks=pytest.mark.big)],
)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Checks]]:
    """Return the results of a client's scenarios; each runs once against a server."""
    log = tmp_path_factory.mktemp("phoenix_js") / f"{request.param}.log"
    name, _, is_on_cluster = request.param.partition("-")
    env = {}
    if is_on_cluster:
        env = {"PHX_REDIS_URL": request.getfixturevalue("cluster").url}
    with servers.serve(name, log, APPLICATION, **env) as server:
        yield functools.cache(functools.partial(run_scenarios, server.url))


@pytest.mark.parametrize(("client", "transport", "scenario"), CASES)
def test_phoenix_js(
    run: Callable[[str, str], Checks], client: str, transport: str, scenario: str
) -> None:
    checks = run(client, transport)
    assert scenario in checks, checks
    assert checks[scenario]["ok"], checks[scenario]["detail"]


@pytest.mark.parametrize(("client", "transport"), RUNS)
def test_the_script_ends_well(
    run: Callable[[str, str], Checks], client: str, transport: str
) -> None:
    assert list(run(client, transport)) == RUNS[client, transport]


def test_every_scenario_of_the_script_is_a_test() -> None:
    script = (HERE / "scenarios.mjs").read_text()
    assert set(re.findall(r'^  "(.+)": async', script, re.M)) == {
        name for *_, name in CASES
    }


@pytest.mark.parametrize("client", POLLERS)
@pytest.mark.parametrize("server", SERVERS)
def test_polling_clients_come_back_to_a_server_that_was_killed_and_started_again(
    server: str, client: str, tmp_path: Path
) -> None:
    port = servers.free_port()
    start = functools.partial(
        servers.run,
        servers.command(server, port, APPLICATION),
        port,
        tmp_path / f"{server}.log",
    )
    with start() as first:
        command = node(
            "comeback.mjs", url=first.url, package=client, transport="LongPoll"
        )
        with servers.start(command, stdout=subprocess.PIPE, text=True) as polling:
            assert polling.stdout
            assert polling.stdout.readline() == "joined\n"
            first.stop(signal.SIGKILL)
            assert polling.stdout.readline() == "left alone\n"
            with start():
                assert polling.stdout.readline() == "joined again\n"
