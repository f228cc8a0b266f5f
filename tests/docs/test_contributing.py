"""CONTRIBUTING explains every room of the package, and a page names what a message passes."""

from __future__ import annotations

import ast
import re
from collections import Counter

from tests.docs.test_reference import PACKAGE
from tests.support.servers import ROOT


def rooms() -> set[str]:
    """The folders with files of ours, and the modules at the top."""
    files = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".lua") and path.stat().st_size
    ]
    folders = {f"{path.parent.as_posix()}/" for path in files if len(path.parts) > 1}
    modules = {path.name for path in files if len(path.parts) == 1}
    return folders | modules | {"static/", "templates/"}


def test_every_room_is_explained_once_and_no_other() -> None:
    page = (ROOT / ".github/CONTRIBUTING.md").read_text()
    (section,) = re.findall(r"^## Which room .+?(?=^## )", page, re.M | re.S)
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.M)
    assert Counter(name for name, _ in rows) == Counter(rooms())
    for name, sentence in rows:
        assert sentence.endswith("."), name


def names_in_the_code() -> set[str]:
    """Every class, function and ``Class.method`` of the package."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                names = (getattr(inner, "name", None) for inner in node.body)
                found |= {f"{node.name}.{name}" for name in names if name}
    return found


def test_how_a_message_travels_names_only_what_exists() -> None:
    page = (ROOT / "docs/how-a-message-travels.md").read_text()
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    known = names_in_the_code() | files | {path.split("/")[-1] for path in files}
    named = set(re.findall(r"`([\w/]+\.py|[A-Z]\w+\.\w+|[A-Z][a-z]\w+)`", page))
    assert len(named) > 50 and named <= known, named - known
