"""Query strings as phoenix.js writes them and Plug reads them: ``a[b]=1``, ``a[]=1``, ``a[0]=x``."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from ..exceptions import DecodeError

#: most bytes of a query string, percent escapes included; servers have other limits, or none
MAX_QUERY_BYTES = 64 * 1024


def decode_query(
    query: bytes, *, max_keys: int = 1000, max_depth: int = 32
) -> dict[str, Any]:
    """Decode the parameters in `query` (``scope["query_string"]``), nested as their brackets say.

    If a key comes twice, its last value counts; a bad percent escape is kept as it is.
    Raises DecodeError on text that is not UTF-8, on more than MAX_QUERY_BYTES, on more than
    `max_keys` pairs and on brackets nested deeper than `max_depth`. Mirrors
    ``Plug.Conn.Query.decode/1``.
    """
    if len(query) > MAX_QUERY_BYTES:
        raise DecodeError(f"a query string of more than {MAX_QUERY_BYTES} bytes")
    pairs = [pair for pair in query.split(b"&") if pair]
    if len(pairs) > max_keys:
        raise DecodeError(f"more than {max_keys} parameters")
    params: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition(b"=")
        path = _path(_text(key))
        if len(path) > max_depth:
            raise DecodeError(f"parameters nested deeper than {max_depth}")
        if len(path) == 1:
            params[path[0]] = _text(value)
        else:
            _assign(params, path, _text(value))
    return params


def _text(quoted: bytes) -> str:
    try:
        if b"%" in quoted or b"+" in quoted:
            quoted = unquote_to_bytes(quoted.replace(b"+", b" "))
        return quoted.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a query string that is not UTF-8") from error


def _path(key: str) -> list[str]:
    """Split ``a[b][]`` into ``["a", "b", ""]``; brackets without a partner belong to the name."""
    head, bracket, rest = key.partition("[")
    if not bracket or not head or not rest.endswith("]"):
        return [key]
    return [head, *rest[:-1].split("][")]


def _assign(params: dict[str, Any], path: list[str], value: str) -> None:
    """Put `value` at `path`: create missing dicts and lists, replace values of another type."""
    here: Any = params
    for name, following in zip(path, [*path[1:], None], strict=True):
        new: Any = value if following is None else [] if following == "" else {}
        if isinstance(here, list):
            here.append(new)
        elif following is None or type(here.get(name)) is not type(new):
            here[name] = new
        else:
            new = here[name]
        here = new
