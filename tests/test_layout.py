"""The rules that hold the package together: what may import what, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import phx_protocol

PACKAGE = Path(phx_protocol.__file__).parent

# In this order; a module may import only what stands before it (TYPE_CHECKING apart).
ORDER = [
    "version",
    "printable",
    "exceptions",
    "logs",
    "tasks",
    "outage",
    "signals",
    "event_log",
    "conf",
    "filters",
    "wire",
    "payloads",
    "limits",
    "state",
    "history",
    "permissions",
    "sessions",
    "admission",
    "budget",
    "users",
    "callbacks",
    "connect_info",
    "events",
    "channel",
    "server",
    "socket",
    "tokens",
    "pubsub",
    "changes",
    "presence",
    "introspection",
    "receivers",
    "transports",
    "routing",
    "lifespan",
    "checks",
    "asgi",
]
RIM = [
    "__init__",
    "admin",
    "apps",
    "contrib",
    "django_json",
    "management",
    "models",
    "pytest_plugin",
    "schema",
    "templatetags",
    "testing",
]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms of this package that the module needs to be imported."""
    found: set[str] = set()
    package = ["phx_protocol", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text())
    typing_only = [
        n
        for n in tree.body
        if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    hidden = {id(node) for block in typing_only for node in ast.walk(block)}
    for node in tree.body:
        if id(node) in hidden or not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        full = base + (node.module.split(".") if node.module else [])
        found |= {full[1]} if len(full) > 1 else {alias.name for alias in node.names}
    return found


def test_imports_point_one_way() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        here = room(path)
        if here in RIM:
            continue
        allowed = set(ORDER[: ORDER.index(here) + 1])
        wrong += [f"{path.name} imports {name}" for name in imports(path) - allowed]
    assert not wrong


def test_the_socket_is_handed_its_pubsub() -> None:
    for module in ("channel", "server", "socket"):
        assert not imports(PACKAGE / f"{module}.py") & {"pubsub", "transports"}


def test_nothing_needs_contrib() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert room(path) == "contrib" or "contrib" not in imports(path), path


def test_the_wire_knows_neither_django_nor_asyncio() -> None:
    for path in (PACKAGE / "wire").glob("*.py"):
        text = path.read_text()
        assert (
            "import django" not in text
            and "from django" not in text
            and "import asyncio" not in text
        )


def test_importing_the_package_needs_no_settings() -> None:
    code = (
        "import phx_protocol, phx_protocol.wire.serializers; phx_protocol.EncodeError"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PATH": ""}, cwd=PACKAGE.parent
    )


def test_every_public_name_is_there() -> None:
    for name in phx_protocol.__all__:
        assert getattr(phx_protocol, name) is not None
    assert sorted(phx_protocol.__all__) == phx_protocol.__all__
