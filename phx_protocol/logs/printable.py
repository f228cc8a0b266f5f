"""Making text of clients safe for a log or a terminal: on one line, and of bounded length.

A client chooses topics, events, payloads and more. None of that may add a line to a log or move
a cursor, and printing a huge value must not cost more than the short text that is printed.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections import UserList, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

#: most characters of a text that are printed
TEXT = 2_000
#: most characters of a text within a value; by default also of the printed value
LENGTH = 500
#: most values within a value, and how deep they may be nested
ITEMS = 100
DEPTH = 10
#: most exceptions of one chain, and of one group
CHAIN = 10

_CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


def printable(text: str, length: int | None = TEXT) -> str:
    """Return `text` on one line, with escapes for characters that are not ``str.isprintable``.

    These are control characters, line separators, characters that change the direction of writing,
    and lone surrogates. Text after `length` characters is cut off; with None nothing is cut.
    """
    cut = str(text[:length])
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
    return cut if length is None or len(text) <= length else f"{cut}..."


def shown(value: Any, length: int = LENGTH) -> str:
    """Return the ``repr`` of `value`, printable and short, made in limited time; never raises."""
    try:
        return printable(repr(bounded(value, _own_repr)), length)
    except Exception:
        return _nameless(value)


def text_of(value: Any) -> str:
    """Return ``str(value)`` if its class defines ``__str__``, else its ``repr``; both printable."""
    if isinstance(value, BaseException):
        return said(value)
    try:
        own: Any = type(value).__str__
        if own is object.__str__ or _field_names(value) is not None:
            return shown(value)
        return printable(str(value))
    except Exception:
        return _nameless(value)


def bounded(value: Any, other: Callable[[Any], str] | None = None) -> Any:
    """Make a small copy of `value`: at most DEPTH deep, with ITEMS values and texts of LENGTH.

    Omitted parts print as ``...``. Objects with fields become dicts of their fields. For any other
    object `other` makes the text, by default only the name of its class: a filter of parameters
    could not see what is in its ``repr``.
    """
    return _Copier(other or _nameless).copy(value, DEPTH)


def said(error: BaseException) -> str:
    """Return the text of an exception, printable and short; never raises."""
    try:
        return printable(_message(error))
    except Exception:
        return _nameless(error)


def in_words(error: BaseException) -> str:
    """Describe an exception of another library; the ``repr`` of redis-py's lacks the message."""
    text = said(error)
    return f"{type(error).__name__}: {text}" if text else shown(error)


def traceback_of(error: BaseException) -> str:
    """Format a traceback as ``traceback.format_exception`` does, with printable messages; never raises."""
    try:
        parts = [_traceback(one) + link for one, link in _chain(error)]
    except Exception:
        return said(error)
    return "".join(reversed(parts))


class Said:
    """A value whose ``repr`` is `text`, without quotes."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Fields(dict[Any, Any]):
    """The fields of an object; its ``repr`` looks like that of the object."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.items())})"


CUT = Said("...")


class _Copier:
    def __init__(self, other: Callable[[Any], str]) -> None:
        self._other = other
        self._left = ITEMS

    def copy(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if isinstance(value, str):
            return value if len(value) <= LENGTH else value[:LENGTH] + "..."
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= 4 * LENGTH else Said("<an int>")
        if isinstance(value, (bytes, bytearray, memoryview)):
            size = value.nbytes if isinstance(value, memoryview) else len(value)
            return Said(f"<{size} bytes>")
        if depth == 0:
            return CUT
        try:
            return self._container(value, depth - 1)
        except Exception:
            return Said(_nameless(value))

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return self._fill({}, value.items(), depth)
        if isinstance(value, (list, tuple, set, frozenset, deque, UserList)):
            names = getattr(value, "_fields", None)
            if not isinstance(value, tuple) or names is None:
                return self._items(value, depth)
            return self._fields(value, names, depth)
        names = _field_names(value)
        if names is None:
            return Said(self._other(value))
        return self._fields(value, names, depth)

    def _items(self, values: Any, depth: int) -> list[Any]:
        copied: list[Any] = []
        for value in values:
            if self._left <= 0:
                return [*copied, CUT]
            copied.append(self.copy(value, depth))
        return copied

    def _fields(self, value: Any, names: Iterable[str], depth: int) -> Any:
        pairs = ((name, getattr(value, name, CUT)) for name in names)
        return self._fill(Fields(type(value).__name__), pairs, depth)

    def _fill(
        self, copied: dict[Any, Any], pairs: Iterable[Any], depth: int
    ) -> dict[Any, Any]:
        for key, value in pairs:
            if self._left <= 0:
                copied[CUT] = CUT
                break
            if isinstance(key, str) and len(key) <= LENGTH:
                copied[key] = self.copy(value, depth)
            elif isinstance(key, (int, float)) or key is None:
                copied[self.copy(key, 0)] = self.copy(value, depth)
            else:
                # no value: a filter of parameters could not recognize a name that is cut off
                copied[Said(shown(key, 50))] = CUT
                self._left -= 1
        return copied


def _field_names(value: Any) -> Iterable[str] | None:
    """Return the field names of a Struct, a dataclass or a pydantic model; None for others."""
    kind = type(value)
    if (names := getattr(kind, "__struct_fields__", None)) is not None:
        return tuple(names)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.repr]
    return list(vars(value)) if hasattr(kind, "__pydantic_fields__") else None


def _nameless(value: Any) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _own_repr(value: Any) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}({said(value)!r})"
    return repr(value)


def _message(error: BaseException) -> str:
    """Return ``str(error)``, but short: its arguments may be large values."""
    count = getattr(
        error, "error_count", None
    )  # of pydantic's errors, whose text has a line for each error
    if callable(count) and count() > ITEMS:
        return f"{count()} errors in {getattr(error, 'title', 'a value')}"
    own = type(error).__str__
    if own is not BaseException.__str__ and own is not KeyError.__str__:
        return str(error)
    if not error.args:
        return ""
    first = error.args[0]
    if len(error.args) == 1:
        is_text = isinstance(first, str) and own is BaseException.__str__
        return str(first) if is_text else shown(first)
    return shown(error.args)


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield `error` and the errors that led to it, each with the text to print after it."""
    seen: set[int] = set()
    link, one = "", error
    while id(one) not in seen and len(seen) < CHAIN:
        seen.add(id(one))
        yield one, link
        if one.__cause__ is not None:
            link, one = _CAUSE, one.__cause__
        elif one.__context__ is not None and not one.__suppress_context__:
            link, one = _CONTEXT, one.__context__


def _traceback(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    head = f"Traceback (most recent call last):\n{frames}" if frames else ""
    kind, message = type(error), said(error)
    module = (
        "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    )
    lines = [f"{module}{kind.__qualname__}{f': {message}' if message else ''}"]
    lines += [printable(str(note)) for note in getattr(error, "__notes__", ())]
    for inner in islice(getattr(error, "exceptions", ()), CHAIN):
        lines += [f"  | {line}" for line in traceback_of(inner).split("\n")]
    return head + "\n".join(lines)
