"""session.js on phoenix.js as npm has it, under Node against a live server with tokens that end soon."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers

HERE = Path(__file__).parent
MODULE = servers.ROOT / "phx_protocol/static/phx_protocol/session.js"
CLIENTS = [
    ("phoenix", "WebSocket"),
    ("phoenix", "LongPoll"),
    pytest.param("phoenix-1.8.12", "WebSocket", marks=pytest.mark.big),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("session_js") / "log"
    application = "tests.integration.token_app:application"
    with servers.serve("uvicorn", log, application) as running:
        yield running


@pytest.mark.parametrize(("package", "transport"), CLIENTS)
@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("renewed", {"lost": 0, "closes": 0, "asked": True}),
        ("expired", {"code": 4401, "status": "ok"}),
        ("useless", {"status": "ok"}),
        (
            "denied",
            {"why": "no other token", "asked": True, "connected": False, "again": []},
        ),
        ("unwelcome", {"why": "no token", "connected": False}),
        ("another", {"code": 1001}),
        (
            "tabs",
            {"asked": True, "statuses": ["ok", "ok"], "closes": [0, 0]},
        ),
        ("channels", {"asked": 100, "statuses": ["ok"]}),
        (
            "identified",
            {
                "before": [None, {}, "none"],
                "named": True,
                "foreign": "none",
                "leaked": "none",
                "gone": None,
                "isNew": True,
                "stopped": True,
            },
        ),
        ("asleep", {"heard": {"n": 1}, "renewed": True}),
    ],
)
def test_a_connection_outlives_its_token(
    server: servers.Server,
    scenario: str,
    expected: dict[str, Any],
    package: str,
    transport: str,
    tmp_path: Path,
) -> None:
    # no package.json says that the .js is a module
    module = shutil.copy(MODULE, tmp_path / "session.mjs")
    config = {"url": server.url, "package": package, "module": str(module)}
    config |= {"transport": transport, "scenario": scenario}
    command = ["node", str(HERE / "session.mjs"), json.dumps(config)]
    ran = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert ran.returncode == 0, ran.stderr
    if transport == "LongPoll":  # phoenix.js has codes of its own for it
        expected = {k: 3410 if k == "code" else v for k, v in expected.items()}
    assert json.loads(ran.stdout) == expected
