"""history.js on phoenix.js as npm has it, under Node against a live server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers

HERE = Path(__file__).parent
MODULE = servers.ROOT / "phx_protocol/static/phx_protocol/history.js"
#: those that take the params of a channel as a function
PACKAGES = ["phoenix", "phoenix-1.8.12", "phoenix-1.6"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("history_js") / "log"
    application = "tests.integration.history_app:application"
    settings = {"DJANGO_SETTINGS_MODULE": "tests.integration.history_settings"}
    with servers.serve("uvicorn", log, application, **settings) as running:
        yield running


@pytest.mark.parametrize("package", PACKAGES)
def test_a_join_that_times_out_and_the_next_one_repeat_nothing(
    server: servers.Server, package: str, tmp_path: Path
) -> None:
    """The server replays for the first of them as well, when nobody waits for it any more."""
    # no package.json says that the .js is a module
    module = shutil.copy(MODULE, tmp_path / "history.mjs")
    config = {"url": server.url, "package": package, "module": str(module)}
    command = ["node", str(HERE / "late_join.mjs"), json.dumps(config)]
    ran = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [0, 1, 2, 3, 4]
