"""Wrappers: find the server's own object behind what middleware has wrapped around its ``send``.

uvicorn's ``send`` is a method of the object that we want, and that of Daphne a partial with it. A
middleware passes its own ``send`` on, which calls that one. So we look into closures, arguments and
attributes of what we get, and at last at the variables of the coroutines that called us.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

#: the most objects that are searched for the server's ``send`` behind wrappers
MOST_WRAPPERS = 200


def server_object(scope: dict[str, Any], send: Any) -> tuple[Any, bool]:
    """Return the server's object of this connection, or None; and whether `send` is wrapped.

    An object that is found inside a wrapper counts only if it made this scope: at least one of
    the objects that a server makes for each connection must be the same.
    """
    owner = _owner(send)
    if owner is not None:
        return owner, False
    for inner in itertools.chain(below(send), _on_the_stack()):
        owner = _owner(inner)
        if owner is not None and _has_given(owner, scope):
            return owner, True
    return None, True


def _owner(send: Any) -> Any:
    """Return the server's object if `send` is uvicorn's or Daphne's own ``send``, else None."""
    if isinstance(send, functools.partial) and send.args:
        func = getattr(send.func, "__name__", "")
        return send.args[0] if func == "handle_reply" else None
    owner = send.__self__ if isinstance(send, types.MethodType) else None
    kind: Any = type(owner)
    return owner if _is_of_uvicorn(kind) else None


@functools.lru_cache(maxsize=64)
def _is_of_uvicorn(kind: Any) -> bool:
    return any(each.__module__.startswith("uvicorn.") for each in kind.__mro__)


def _has_given(owner: Any, scope: dict[str, Any]) -> bool:
    theirs = getattr(owner, "scope", None) or {
        "headers": getattr(owner, "clean_headers", None),
        "client": getattr(owner, "client_addr", None),
        "server": getattr(owner, "server_addr", None),
    }
    return any(
        scope.get(key) is not None and scope[key] is theirs.get(key)
        for key in ("headers", "client", "server")
    )


def unwrap(send: Any) -> Any:
    """Return ``send`` without the wrapper of Channels' session middleware, which changes nothing."""
    while (
        real := getattr(getattr(send, "__self__", None), "real_send", None)
    ) is not None:
        send = real
    return send


def below(send: Any) -> Iterator[Any]:
    """Yield `send` and what it may call: the values in its closures, arguments and objects.

    The nearest come first. Containers are not searched: a wrapper keeps one ``send``, and an
    object that keeps many is not a wrapper.
    """
    seen, waiting = {id(send)}, deque([send])
    while waiting and len(seen) <= MOST_WRAPPERS:
        here = waiting.popleft()
        yield here
        for held in _held(here):
            if callable(held) and not isinstance(held, type) and id(held) not in seen:
                seen.add(id(held))
                waiting.append(held)


def _held(wrapper: Any) -> Iterator[Any]:
    if isinstance(wrapper, functools.partial):
        yield from (wrapper.func, *wrapper.args, *wrapper.keywords.values())
    elif isinstance(wrapper, types.MethodType):
        yield wrapper.__func__
        yield from _attributes(wrapper.__self__)
    elif isinstance(wrapper, types.FunctionType):
        for cell in wrapper.__closure__ or ():
            with contextlib.suppress(ValueError):  # not filled yet
                yield cell.cell_contents
        yield from wrapper.__defaults__ or ()
        yield from (wrapper.__kwdefaults__ or {}).values()
        yield getattr(wrapper, "__wrapped__", None)
    else:
        yield from _attributes(wrapper)


def _attributes(wrapper: Any) -> Iterator[Any]:
    # read the object's own values only: a property or __getattr__ is code that we must not run
    with contextlib.suppress(TypeError):
        yield from list(vars(wrapper).values())
    for kind in type(wrapper).__mro__:
        for name in _slots(kind):
            with contextlib.suppress(AttributeError):
                yield getattr(kind, name).__get__(wrapper)


def _slots(kind: type) -> list[str]:
    slots = kind.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [
        n for n in names if isinstance(kind.__dict__.get(n), types.MemberDescriptorType)
    ]


def _on_the_stack() -> Iterator[Any]:
    """Yield the variables of the coroutines that wait for this one.

    Middleware gets ``send`` as an argument, wherever it keeps it later.
    """
    frame = sys._getframe(1)
    for _ in range(MOST_WRAPPERS):
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            yield from list(frame.f_locals.values())
        if frame.f_back is None:
            return
        frame = frame.f_back
