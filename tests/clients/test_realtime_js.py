"""@supabase/realtime-js, under Node against a live server: it sends new tokens in its own way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers

PROGRAM = Path(__file__).parent / "realtime.mjs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("realtime_js") / "log"
    application = "tests.integration.token_app:application"
    with servers.serve("uvicorn", log, application) as running:
        yield running


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("renewed", {"lost": 0, "closes": 0, "rejoins": []}),
        ("channels", {"asked": 100, "closes": []}),
        ("another", {"code": 1001}),
        ("expired", {"code": 4401}),
        ("nonsense", {"answer": "ok", "closes": []}),
    ],
)
def test_its_tokens_count(
    server: servers.Server, scenario: str, expected: dict[str, Any]
) -> None:
    config = json.dumps({"url": server.url, "scenario": scenario})
    command = ["node", str(PROGRAM), config]
    ran = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == expected
