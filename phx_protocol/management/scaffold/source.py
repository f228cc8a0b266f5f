"""Add a class to the source of a module, and leave the rest as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

#: the most characters of a line, as in black
LINE = 88


class Unfit(Exception):
    """The class cannot be added to this source."""


def with_class(source: str, name: str, code: str, imports: Iterable[str]) -> str:
    """Return `source` with the class `name` at its end and `imports` of phx_protocol at its head.

    Raise Unfit if a name is taken, SyntaxError if `source` is not Python.
    """
    if not source.strip():
        return f"from phx_protocol import {', '.join(imports)}\n\n\n{code}"
    tree = ast.parse(source)
    bound = dict(_bound(tree))
    if name in bound:
        raise Unfit(f"{name} is there already: take another name")
    for wanted in imports:
        if wanted in bound and not (bound[wanted] or "").startswith("phx_protocol"):
            raise Unfit(
                f"{wanted} is not that of phx_protocol there: give it another name"
            )
    missing = [wanted for wanted in imports if wanted not in bound]
    return f"{_with_imports(source, tree, missing).rstrip()}\n\n\n{code}"


def _bound(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Yield the names of the module's top level, and the module from which each was imported."""
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None)
            for alias in node.names:
                yield (alias.asname or alias.name), module
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, None
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    yield target.id, None


def _with_imports(source: str, tree: ast.Module, names: list[str]) -> str:
    if not names:
        return source
    lines = source.splitlines(keepends=True)
    imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    ours = [n for n in imports if getattr(n, "module", None) == "phx_protocol"]
    for node in ours:
        here = slice(node.lineno - 1, node.end_lineno)
        if not set("#;") & set("".join(lines[here])):
            lines[here] = [_import([*node.names, *map(ast.alias, names)])]
            return "".join(lines)
    line = _import(list(map(ast.alias, names)))
    if imports:
        at = imports[-1].end_lineno or 0
    else:
        has_docstring = ast.get_docstring(tree) is not None
        at = (tree.body[0].end_lineno or 0) if has_docstring else 0
        line = f"\n{line}" if has_docstring else f"{line}\n\n"
    return "".join([*lines[:at], line, *lines[at:]])


def _import(names: list[ast.alias]) -> str:
    """Return the import as isort and black write it: classes before functions."""
    names = sorted(names, key=lambda a: (a.name[0].islower(), a.name.lower()))
    line = ast.unparse(ast.ImportFrom("phx_protocol", names, 0))
    if len(line) > LINE:
        listed = "".join(f"    {ast.unparse(name)},\n" for name in names)
        line = f"from phx_protocol import (\n{listed})"
    return f"{line}\n"
