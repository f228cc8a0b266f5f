"""The rules that hold the house together: who may import whom, and what lies at the top."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import phx_protocol

PACKAGE = Path(phx_protocol.__file__).parent

#: A room imports what is in it, and what stands in a layer above it in this list.
LAYERS = [
    ["conf", "logs", "version"],
    ["concurrency", "exceptions", "signals"],
    ["auth", "bus", "layers", "wire"],
    ["state"],
    ["pubsub"],
    ["node"],
    ["history"],
    ["socket"],
    ["api", "middleware", "presence", "transports"],
    ["changes", "health", "introspection", "receivers", "schema", "tokens", "users"],
    ["contrib", "django_json", "models", "testing"],
    ["admin", "checks", "management", "templatetags"],
    ["apps", "outbox", "pytest_plugin", "revocations", "routing"],
    ["asgi"],
    ["__init__"],
]
LAYER = {room: n for n, rooms in enumerate(LAYERS) for room in rooms}
#: what Django, an ASGI server or pytest looks for by its name
NAMED = {"__init__", "apps", "asgi", "checks", "django_json", "models", "pytest_plugin"}
#: what an ASGI server is known by
SERVERS = {"daphne", "granian", "hypercorn", "uvicorn", "websockets", "wsproto"}
#: the doctor is a client of any server
ADAPTERS = ["contrib", "management/doctor", "transports/servers"]

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The module's name below the package; a folder has that of its ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


NAMES = {name_of(path) for path in MODULES}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules of the package that `path` imports, wherever it does; and whether that is when it is
    loaded itself."""
    tree = ast.parse(path.read_text())
    at_once = set(map(id, tree.body))
    package = ["phx_protocol", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{whole}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "phx_protocol":
                yield module_of(rest), id(node) in at_once


def module_of(name: str) -> str:
    """The module that `name` is, or stands in."""
    while name and name not in NAMES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_import_names_the_own_room_or_a_lower_layer() -> None:
    """Yield the imports, also those in functions and for type checkers."""
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module, _ in imports(path)
        if room_of(module) != (here := room_of(name_of(path)))
        and LAYER[room_of(module)] >= LAYER[here]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_needs_itself_to_be_loaded() -> None:
    needed = {
        name_of(path): {
            module
            for module, at_once in imports(path)
            if at_once and not name_of(path).startswith(f"{module}.")
        }
        for path in MODULES
    }
    graphlib.TopologicalSorter(needed).prepare()  # it raises CycleError


def test_top_level_modules_are_public_or_named_by_django_asgi_or_pytest() -> None:
    top = {path.stem for path in PACKAGE.glob("*.py")}
    surface = (Path(__file__).parent / "public_surface.txt").read_text()
    public = {name for name in top if f"\nphx_protocol.{name}." in surface}
    assert top - public - NAMED <= {"version"}
    assert len(top) <= 15


def test_every_room_has_a_layer_and_every_layer_a_room() -> None:
    assert {room_of(name) for name in NAMES} == LAYER.keys()


@pytest.mark.parametrize("unknown", ["django", "asyncio"])
def test_the_wire_knows_neither_django_nor_asyncio(unknown: str) -> None:
    for path in (PACKAGE / "wire").glob("*.py"):
        assert unknown not in external(path), path


def external(path: Path) -> set[str]:
    """The packages of others that `path` imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_only_adapters_import_an_asgi_server() -> None:
    for path in MODULES:
        where = path.relative_to(PACKAGE).as_posix()
        if not where.startswith(tuple(ADAPTERS)):
            assert not external(path) & SERVERS, where


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield path, node


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Return the attributes of an object of the class: those assigned to ``self``."""
    stored = (n for n in ast.walk(node) if isinstance(n, ast.Attribute))
    return {
        n.attr
        for n in stored
        if isinstance(n.ctx, ast.Store)
        and isinstance(n.value, ast.Name)
        and n.value.id == "self"
    }


def test_a_module_is_read_at_one_sitting_and_so_is_a_class() -> None:
    long = {name_of(p): n for p in MODULES if (n := len(p.open().readlines())) > 450}
    assert not long
    lines = {c.name: (c.end_lineno or 0) - c.lineno + 1 for _, c in classes()}
    assert not {name: n for name, n in lines.items() if n > 380}


def test_an_object_keeps_few_things_those_of_its_bases_here_included() -> None:
    """A ChannelServer stands for what is two objects elsewhere: there is one for each joined topic."""
    found = {c.name: c for _, c in classes()}

    def kept(node: ast.ClassDef) -> set[str]:
        bases = (b.id for b in node.bases if isinstance(b, ast.Name) and b.id in found)
        own = attributes_of(node)
        return own.union(*(kept(found[b]) for b in bases if b != node.name))

    counts = {name: len(kept(node)) for name, node in found.items()}
    assert counts.pop("ChannelServer") <= 21
    assert not {name: n for name, n in counts.items() if n > 15}
