"""The documentation says what the code does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps

import phx_protocol
from phx_protocol.conf import DRAINER, LONGPOLL, STATE, Options
from phx_protocol.transports.longpoll import consumer as longpoll
from phx_protocol.transports.longpoll import session
from phx_protocol.wire.reasons import CloseCode, Refusal
from tests.hostile.attacks import ATTACKS
from tests.hostile.measure import WORST
from tests.support.tables import table

PACKAGE = Path(phx_protocol.__file__).parent
ROOT = PACKAGE.parent
LIMITS = (PACKAGE.parent / "docs/limits.md").read_text()
SHARED = (PACKAGE.parent / "docs/shared.md").read_text()


def test_every_reason_is_explained_and_no_other() -> None:
    assert table("Reasons", LIMITS) == {str(reason) for reason in Refusal}


def test_every_close_code_is_explained_and_no_other() -> None:
    assert table("Close codes", LIMITS) == {str(int(code)) for code in CloseCode}


def test_every_status_of_long_poll_is_explained() -> None:
    # those that are numbers in the code of the transport
    said = {
        str(node.value)
        for module in (longpoll, session)
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, int)
        and 200 <= node.value < 600
    }
    assert said and said <= table("Statuses", LIMITS)


def test_every_key_of_the_state_is_explained_and_no_other() -> None:
    assert table("The state", SHARED) == set(STATE)


def test_every_call_of_a_presence_is_explained() -> None:
    said = " ".join(table("Presence", SHARED))
    for name in ("track", "update", "untrack", "list", "get", "sync"):
        assert f".{name}" in said


def literals(node: ast.AST) -> list[Any]:
    """The reasons and close codes that `node` says without reasons.py."""
    if isinstance(node, ast.Dict):
        said = [
            value
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and key.value == "reason"
        ]
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        said = {"close": node.args[:1], "ConnectionRefused": node.args[1:]}.get(
            name, []
        )
    else:
        return []
    return [n.value for n in said if isinstance(n, ast.Constant) and n.value]


def test_reasons_and_close_codes_are_written_in_one_place_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        found = [literals(node) for node in ast.walk(ast.parse(path.read_text()))]
        # trust.py: what is wrong with a handshake that no client of ours sends
        assert sum(found, []) in ([], ["the bearer token is not base64"]), path


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in Options.__dataclass_fields__
        if name.startswith("max_") or name in ("throttle", "inbound", "outbound")
    ],
)
def test_every_limit_is_in_the_table(name: str) -> None:
    assert f"`{name.upper()}`" in LIMITS


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading of the page on limits."""
    (text,) = re.findall(rf"^##+ {title}\n(.+?)(?=^##|\Z)", LIMITS, flags=re.M | re.S)
    first = re.search(r"(?:^\|.+\n)+", text, flags=re.M)
    assert first
    lines = re.findall(r"^\| (.+) \|$", first[0], flags=re.M)
    return [line.split(" | ") for line in lines[1:]]


def test_every_limit_says_what_the_worst_client_costs() -> None:
    limits = [row[0] for row in rows("Limits")]
    costs = {row[0]: row[1:] for row in rows("What the worst client costs")}
    without = [limit for limit in limits if limit not in costs]
    assert without == NO_CLIENTS
    assert set(costs) <= set(limits)
    assert {limit: cells[0] for limit, cells in costs.items()} == WORST
    for attack, *figures in costs.values():
        assert attack in ATTACKS and len(figures) == 4
        assert all(0 <= int(figure) < 200 for figure in figures)


#: limits that no client comes near: they are of the processes, or of the connection's age; or that
#: are off by default, and only make the others cheaper
NO_CLIENTS = [
    "connections of one user, to all processes",
    "connections of one address, to all processes",
    "how often one address may connect, to all processes",
    "age of a connection",
    "silence of a client",
    "broadcasts of one process that are on their way to others",
    "broadcasts of one process that wait for the channel layer",
    "one message from process to process",
    "the answer of one process to another about its sockets or topics",
    "one POST to a session in another process, one message to a long-poll client",
]


def test_the_limits_of_long_poll_are_in_the_table() -> None:
    for key in LONGPOLL:
        if key.startswith("MAX_"):
            assert f'`LONGPOLL["{key}"]`' in LIMITS


OPERATE = (PACKAGE.parent / "docs/operate.md").read_text()


def test_every_command_is_explained_and_no_other() -> None:
    paths = PACKAGE.rglob("management/commands/phx_*.py")
    commands = {path.stem for path in paths}
    said = " ".join(table("Commands", OPERATE))
    assert set(re.findall(r"\bphx_\w+", said)) == commands


def test_every_key_of_the_drainer_is_explained_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", OPERATE, flags=re.M)
    assert {name: float(value) for name, value in rows} == DRAINER


def test_every_permission_of_the_admin_is_explained_and_no_other() -> None:
    page = (PACKAGE.parent / "docs/admin.md").read_text()
    said = re.findall(r"^\| `phx_protocol\.(\w+)` \|", page, flags=re.M)
    made = [
        f"view_{model._meta.model_name}"
        for model in apps.get_app_config("phx_protocol").get_models()
    ]
    for model in apps.get_app_config("phx_protocol").get_models():
        made += [name for name, _ in model._meta.permissions]
    assert sorted(said) == sorted(made)


def test_the_code_of_the_page_on_testing_runs_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "docs/testing.md").read_text()
    blocks = re.findall(r"^```python\n(.+?)^```", page, flags=re.M | re.S)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat/sockets.py").write_text(
        "from tests.examples.chat import ChatSocket\n"
    )
    options = ["-v", "-p", "no:cacheprovider", "-c", str(ROOT / "setup.cfg")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    ran = set(re.findall(r"test_block_\d+", run.stdout))
    assert len(ran) == len(blocks) > 1
