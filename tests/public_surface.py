"""All names that users of the package can use, with their signatures, a line each.

    python -m tests.public_surface > tests/public_surface.txt

It is read from the source: neither Python's version nor Django's has a say in how it looks.
Public is what MODULES, an ``__all__`` or an ``import x as x`` names, else what has no underscore and is documented;
nothing is that stands in a class below the line ``the implementation``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, load_command_class

import phx_protocol

PACKAGE = Path(phx_protocol.__file__).parent
MODULES = """
    . asgi changes contrib.access_logs contrib.prometheus health introspection middleware pytest_plugin
    revocations routing signals templatetags.phx_protocol testing tokens users
    conf:Options,DRAINER,LONGPOLL,OUTBOUND,STATE,WEBSOCKET
    contrib.drf:DRFSocket contrib.jwt:JWT,JWTSocket contrib.opentelemetry:instrument,uninstrument
    contrib.simplejwt:SimpleJWTSocket contrib.uvicorn:PhoenixWebSocketProtocol
    exceptions:DecodeError,InvalidPayload,InvalidTopicPattern,StateRefused
    layers pubsub:group_name wire.json:json_default wire.messages:Broadcast,Frame,Message,Reply
    wire.reasons:CloseCode,Refusal wire.serializers:Serializer
"""


class Module:
    def __init__(self, path: Path) -> None:
        self.path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = self.path.read_text()
        self.lines, self.tree = text.splitlines(), ast.parse(text)
        self.made: dict[str, Any] = {name_of(node): node for node in self.tree.body}
        above = re.findall(r"^((?:#: .*\n)+)(\w+)", text, flags=re.M)
        self.comments = {name: said.replace("\n#:", "")[3:-1] for said, name in above}

    def public(self) -> list[str]:
        if exported := [name for names in self.exported().values() for name in names]:
            return sorted(exported)
        if "__all__" in self.made:
            return list(ast.literal_eval(self.made["__all__"].value))
        made = [name for name, node in self.made.items() if is_documented(node)]
        return [n for n in made if n in self.comments or hasattr(self.made[n], "body")]

    def exported(self) -> dict[str, tuple[str, ...]]:
        """What is imported under its own name (``import x as x``), by module."""
        imports = (
            node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)
        )
        found = {
            str(node.module): tuple(a.name for a in node.names if a.asname == a.name)
            for node in imports
        }
        return {module: names for module, names in found.items() if names}

    def said(self, dotted: str, name: str) -> Iterator[str]:
        """The lines of `name`, which is made here, or in a module that this one imports."""
        if name not in self.made:
            yield from self.imported(name).said(dotted, name)
            return
        node = self.twin(self.made[name])
        # what a signal tells its receivers stands in its comment only
        comment = self.comments.get(name) if ".signals." in dotted else None
        yield f"{dotted}{signature(node)}" + (f"  # {comment}" if comment else "")
        for member in self.members(node) if isinstance(node, ast.ClassDef) else ():
            yield f"{dotted}.{name_of(member)}{signature(member)}"

    def twin(self, node: Any) -> Any:
        """What ``name = sync(aname)`` makes is `aname`, but not async."""
        if not (
            isinstance(node, ast.Assign) and ast.unparse(node.value)[:5] == "sync("
        ):
            return node
        of = self.made[ast.unparse(node.value.args[0])]  # type: ignore[attr-defined]
        return ast.FunctionDef(
            name_of(node), of.args, of.body, [], of.returns, lineno=of.lineno
        )

    def imported(self, name: str) -> Module:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                if name in [alias.name for alias in node.names]:
                    return Module(self.path.parent.joinpath(*node.module.split(".")))
        raise LookupError(f"{self.path} has no {name}")

    def members(self, of: ast.ClassDef) -> Iterator[ast.AST]:
        for node in of.body:
            before = self.lines[of.lineno : node.lineno]
            if any(line.endswith("-- the implementation") for line in before):
                return
            parts: list[ast.AST] = [node]
            if name_of(node) == "__init__":
                yield node
                parts = [n for n in ast.walk(node) if isinstance(n, ast.AnnAssign)]
            yield from filter(is_documented, parts)


def name_of(node: Any) -> str:
    """Return the name that a statement defines, or ""."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node
    target = getattr(target, "target", target)
    names = [getattr(target, key, "") for key in ("name", "id", "attr")]
    return str(next(filter(None, names), ""))


def is_documented(node: Any) -> bool:
    """Whether it has no underscore and, unless it is an attribute, a docstring."""
    is_private = name_of(node)[:1] in ("", "_")
    return not is_private and bool(not hasattr(node, "body") or ast.get_docstring(node))


def signature(node: Any) -> str:
    if isinstance(node, ast.ClassDef):
        return f": class({', '.join(map(ast.unparse, node.bases))})"
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return ast.unparse(node).removeprefix("self.").removeprefix(name_of(node))
    marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list)
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f": {marks}{kind}({ast.unparse(node.args)}){returns}"


def commands() -> Iterator[str]:
    """The management commands and their arguments, without those that all have."""
    shared = {a.dest for a in BaseCommand().create_parser("", "")._actions}
    for path in (PACKAGE / "management/commands").glob("phx_*.py"):
        command = load_command_class("phx_protocol", path.stem)
        yield f"manage.py {path.stem}"
        arguments = command.create_parser("manage.py", path.stem)._actions
        for a in (a for a in arguments if a.dest not in shared):
            name = "/".join(a.option_strings) or a.dest
            options = f"nargs={a.nargs}, default={a.default!r}, choices={a.choices and [*a.choices]}"
            yield f"manage.py {path.stem} {name}: {options}"


def surface() -> list[str]:
    lines = set(commands())
    for entry in MODULES.split():
        name, _, names = entry.partition(":")
        module = Module(PACKAGE.joinpath(*name.split(".")))
        for public in names.split(",") if names else module.public():
            dotted = f"phx_protocol.{name}.{public}".replace("...", ".")
            lines |= {*module.said(dotted, public)}
    return sorted(lines)


if __name__ == "__main__":
    settings.configure()
    print("\n".join(surface()))
