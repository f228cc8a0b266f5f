"""history.js on phoenix.js as npm has it, under Node against a live server."""

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
MODULE = servers.ROOT / "phx_protocol/static/phx_protocol/history.js"
#: those that take the params of a channel as a function
PACKAGES = [
    "phoenix",
    pytest.param("phoenix-1.8.12", marks=pytest.mark.big),
    "phoenix-1.6",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    log = tmp_path_factory.mktemp("history_js") / "log"
    application = "tests.integration.history_app:application"
    settings = {"DJANGO_SETTINGS_MODULE": "tests.integration.history_settings"}
    with servers.serve("uvicorn", log, application, **settings) as running:
        yield running


def printed(
    script: str, server: servers.Server, directory: Path, package: str, **config: str
) -> Any:
    """Return what `script` prints at its end."""
    # no package.json says that the .js is a module
    module = shutil.copy(MODULE, directory / "history.mjs")
    config = {"url": server.url, "package": package, "module": str(module), **config}
    command = ["node", str(HERE / script), json.dumps(config)]
    ran = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_join_that_times_out_and_the_next_one_repeat_nothing(
    server: servers.Server, package: str, tmp_path: Path
) -> None:
    """The server replays for the first of them as well, when nobody waits for it any more."""
    assert printed("late_join.mjs", server, tmp_path, package) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_comes_twice_is_given_once(
    server: servers.Server, package: str, tmp_path: Path
) -> None:
    assert printed("given_twice.mjs", server, tmp_path, package) == list(range(14))


CLIENTS = [
    ("phoenix", "WebSocket"),
    pytest.param("phoenix-1.8.12", "WebSocket", marks=pytest.mark.big),
    ("phoenix-1.6", "WebSocket"),
    ("phoenix", "LongPoll"),
]


@pytest.mark.parametrize("kind", ["kept", "masked"])
@pytest.mark.parametrize(("package", "transport"), CLIENTS)
def test_a_client_that_lost_its_connection_gets_what_it_missed_or_recovered_is_false(
    server: servers.Server, package: str, transport: str, kind: str, tmp_path: Path
) -> None:
    """Its own whispers make no difference."""
    config = {"transport": transport, "kind": kind}
    output = printed("catch_up.mjs", server, tmp_path, package, **config)
    first, again = {"recovered": False}, {"recovered": True}
    assert output == [first, 0, again, 1, again, 2, 3, 4, 5, first, 36]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("package", "transport"), CLIENTS)
def test_a_client_that_is_cut_in_the_middle_of_a_rewind_gets_the_rest_and_nothing_twice(
    server: servers.Server, package: str, transport: str, twice: bool, tmp_path: Path
) -> None:
    """Messages that are binary too, whether everything comes twice or not."""
    config: Any = {"transport": transport, "twice": twice}
    output = printed("rewound.mjs", server, tmp_path, package, **config)
    rewound = {"recovered": False, "rewound": True}
    recovered = {"recovered": True, "rewound": False}
    assert output == [
        *(rewound, 2, [3]),
        *(recovered, 4, 5, [6]),
        *(recovered, 7, [99]),
        *(rewound, 34, 35, 36, [99]),
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_kept_broadcast_is_no_answer_to_a_heartbeat(
    server: servers.Server, package: str, tmp_path: Path
) -> None:
    """phoenix.js takes any message for it whose ref is that of the pending heartbeat."""
    result = printed("heartbeats.mjs", server, tmp_path, package)
    assert result.pop("between") > 0  # else nothing was tried
    assert result == {
        "answered": 30,
        "wrong": [],
        "inOrder": True,
        "closes": 0,
        "sent": 30,
        "unanswered": 0,
    }
