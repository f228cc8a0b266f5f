"""phoenix.js as npm has it, in three ages, under Node against live servers."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers

SCRIPT = Path(__file__).parent / "scenarios.mjs"
SERVERS = ["daphne", "uvicorn"]
# the npm packages of tests/package.json; 1.2.1 speaks V1, which has no binary frames
CLIENTS = ["phoenix", "phoenix-1.8.12", "phoenix-1.2.1"]
SCENARIOS = [
    "connects",
    "is refused by connect",
    "has its heartbeats answered",
    "joins",
    "is denied a join",
    "is told that no channel matches the topic",
    "gets a push just after the join",
    "gets a reply to a push",
    "gets an error reply to a push",
    "sees a push that nobody answers time out",
    "chats with another client",
    "whispers to the others only",
    "leaves and joins again",
    "joins again by itself when the channel crashed",
    "stays away when the channel stopped",
    "reconnects and joins again when the server disconnects it",
]
SINCE_V2 = [
    "connects with an auth token",
    "has bytes echoed",
    "gets bytes pushed",
    "gets bytes broadcast",
]

Checks = dict[str, dict[str, Any]]
CASES = [
    (client, name)
    for client in CLIENTS
    for name in SCENARIOS + (SINCE_V2 if client != "phoenix-1.2.1" else [])
]


def run_script(url: str, client: str) -> Checks:
    """All scenarios run by one client: name -> what the Node script said of it."""
    command = ["node", str(SCRIPT), json.dumps({"url": url, "package": client})]
    try:
        ran = subprocess.run(command, capture_output=True, timeout=60)
        said, ending = ran.stdout, ran.stderr.decode() if ran.returncode else ""
    except subprocess.TimeoutExpired as late:
        said, ending = late.stdout or b"", str(late)
    checks = {check["name"]: check for check in map(json.loads, said.splitlines())}
    if ending:
        checks["the end of the script"] = {"ok": False, "detail": ending}
    return checks


@pytest.fixture(scope="module", params=SERVERS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Checks]]:
    """What a client's scenarios came to; each client runs once against a server."""
    log = tmp_path_factory.mktemp("phoenix_js") / f"{request.param}.log"
    with servers.serve(request.param, log) as server:
        yield functools.cache(functools.partial(run_script, server.url))


@pytest.mark.parametrize(("client", "scenario"), CASES)
def test_phoenix_js(run: Callable[[str], Checks], client: str, scenario: str) -> None:
    checks = run(client)
    assert scenario in checks, checks
    assert checks[scenario]["ok"], checks[scenario]["detail"]


@pytest.mark.parametrize("client", CLIENTS)
def test_every_scenario_of_the_script_is_a_test(
    run: Callable[[str], Checks], client: str
) -> None:
    assert list(run(client)) == [name for who, name in CASES if who == client]
