"""Which tests need a process of their own: a server, a browser, a command. And which a database.

Nobody marks them by hand: a function that starts a process can be reached from their code, or from
a fixture of theirs. Whatever is overlooked so fails when it starts one. The others say themselves,
in the ways of pytest-django, that they use the database.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import TransactionTestCase

PROCESS = "process"
DATABASE = "database"
#: the calls below which all others start a process
STARTERS = [
    asyncio.create_subprocess_exec,
    os.fork,
    subprocess.Popen,
    subprocess.run,
]
#: what Python tells an audit hook when one is started
EVENTS = {"os.fork", "subprocess.Popen"}
#: what Python itself runs, once, at the first call of ``platform``
PYTHONS_OWN = "uname"


def needs_process(item: pytest.Function) -> bool:
    """Whether `item` or one of its fixtures can start a process."""
    fixtures: dict[str, Any] = item._fixtureinfo.name2fixturedefs
    functions = [d.func for definitions in fixtures.values() for d in definitions]
    return any(map(leads_to_process, (item.function, item.cls, *functions)))


def needs_database(item: pytest.Function) -> bool:
    """Whether `item` uses the database of the tests."""
    if item.cls is not None and issubclass(item.cls, TransactionTestCase):
        return True
    if item.get_closest_marker("django_db"):
        return True
    return not {"db", "transactional_db"}.isdisjoint(item.fixturenames)


@functools.cache
def leads_to_process(found: Any) -> bool:
    """Whether `found`, a function or a class of the tests, can start one."""
    return _starts(found, set())


def _starts(found: Any, seen: set[int]) -> bool:
    """Whether a starter can be reached from `found`, by way of what is defined in the tests."""
    if any(found is starter for starter in STARTERS):
        return True
    module = str(getattr(found, "__module__", ""))
    if id(found) in seen or not module.startswith("tests"):
        return False
    seen.add(id(found))
    if isinstance(found, type):
        return any(_starts(getattr(found, name), seen) for name in vars(found))
    function = inspect.unwrap(getattr(found, "__func__", found))
    return isinstance(function, types.FunctionType) and any(
        _starts(named, seen) for named in _named(function)
    )


def _named(function: types.FunctionType) -> Iterator[Any]:
    """Return what the code of `function` names: globals, and the values in modules and tables."""
    names = set(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        yield value
        if isinstance(value, types.ModuleType):
            yield from (getattr(value, attribute, None) for attribute in names)
        elif isinstance(value, dict):
            yield from value.values()


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class Watch:
    """Fails a test that starts a process and is not marked."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event in EVENTS and self.item is not None and PYTHONS_OWN not in args:
            if self.item.get_closest_marker(PROCESS) is None:
                raise RuntimeError(
                    f"{self.item.nodeid} starts a process, and is not marked as one that does"
                )
