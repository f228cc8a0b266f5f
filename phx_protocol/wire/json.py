"""JSON for the wire, by msgspec, which accepts and refuses what Phoenix does.

Integers of any size are exact, ``-0.0`` is kept, the last of several equal keys wins, and
``1e400``, ``NaN`` and a lone surrogate are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import marshal
from collections import UserList
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import msgspec

from ..exceptions import DecodeError, EncodeError
from ..logs.printable import message_of

# The errors that decoding raises. msgspec's own errors are ValueErrors, and so is the UnicodeError
# for text that is not UTF-8; deep nesting raises RecursionError.
DECODE_ERRORS = (ValueError, RecursionError)
ENCODE_ERRORS = (
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)


@singledispatch
def json_default(value: object) -> Any:
    """Turn a value of a type that msgspec does not know into a value that it can encode.

    A ``functools.singledispatch`` function: ``@json_default.register`` adds another type.
    Django's own types are registered when the app is loaded. An object with a ``model_dump`` is
    taken for a pydantic model and is encoded by its aliases.
    """
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)
    raise TypeError(
        f"{type(value).__module__}.{type(value).__qualname__} is not JSON serializable"
    )


@json_default.register
def _str(value: str) -> str:
    return str.__str__(value)  # str() of a SafeString is a SafeString again


@json_default.register
def _int(value: int) -> int:
    return int(value)


@json_default.register
def _float(value: float) -> float:
    return float(value)


@json_default.register(UserList)
def _user_list(value: UserList[Any]) -> list[Any]:
    return value.data


_encode = msgspec.json.Encoder(enc_hook=json_default).encode


def encode(value: Any) -> bytes:
    """Encode `value` as compact JSON in UTF-8. Raises EncodeError."""
    try:
        encoded = _encode(value)
        # An empty list in the JSON may be one that hides its items. Most frames have no list at
        # all, and searching for one byte takes a third of the time of searching for two.
        if encoded.find(b"[", 1) < 0 or b"[]" not in encoded or _is_plain(value):
            return encoded
        return _encode(_shown(value)) if _hides(value) else encoded
    except ENCODE_ERRORS as error:
        raise EncodeError(f"cannot be encoded as JSON: {message_of(error)}") from error


# The errors of a Django form are a UserList that also derives from ``list``. msgspec encodes the
# ``list`` part of it, which is empty: the items are hidden.


def _is_plain(value: Any) -> bool:
    """Return True if `value` consists of Python's own types, without subclasses. It is when it was decoded.

    ``marshal`` accepts nothing else, and visits the value in C: it takes a sixth of what `_hides` does.
    """
    try:
        marshal.dumps(value, 2)  # this version remembers no object that it has seen
        return True
    except ValueError:
        return False


def _hides(value: Any) -> bool:
    """Return True if `value` contains a list that hides its items.

    It visits the value level by level, with a few calls for each level. A value that the garbage
    collector does not track contains no list.
    """
    level = [value]
    while level:
        kinds = set(map(type, level))
        if any(issubclass(kind, UserList) and issubclass(kind, list) for kind in kinds):
            return True
        if kinds <= _LEAVES:
            return False
        if not kinds <= _PLAIN:
            level = list(filter(gc.is_tracked, level))
            kinds = set(map(type, level))
        others = [] if kinds <= _PLAIN else [v for v in level if type(v) not in _PLAIN]
        if others:
            level = [inner for inner in level if type(inner) in _PLAIN]
        level = gc.get_referents(*level)
        for other in others:
            level.extend(_parts(other))
    return False


_LEAVES = frozenset({str, int, float, bool, type(None)})
_PLAIN = frozenset({dict, list, tuple, set, frozenset})


def _parts(value: Any) -> Iterable[Any]:
    """Return the values inside `value`, whose type is not one of _LEAVES or _PLAIN."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset, UserList)):
        return value
    return [getattr(value, name) for name in _fields(value)]


def _fields(value: Any) -> Iterable[str]:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    return ()


def _shown(value: Any) -> Any:
    """Copy `value` with plain lists in place of the lists that hide their items.

    It recurses one call per level, as the encoder does: every value that can be encoded can be
    copied.
    """
    if isinstance(value, UserList):
        return _shown(json_default(value))
    if isinstance(value, dict):
        copied: Any = {}
        for key, of_key in value.items():
            copied[key] = _shown(of_key) if gc.is_tracked(of_key) else of_key
        return copied
    if isinstance(value, (list, tuple)):
        copied = []
        for item in value:
            copied.append(_shown(item) if gc.is_tracked(item) else item)
        return copied
    if names := _fields(value):
        copied = copy.copy(value)
        for name in names:
            _set(copied, name, _shown(getattr(value, name)))
        return copied
    return value


def _set(value: Any, name: str, to: Any) -> None:
    """Set a field, even of a frozen object."""
    if isinstance(value, msgspec.Struct):
        msgspec.structs.force_setattr(value, name, to)
    else:
        object.__setattr__(value, name, to)


def decode(text: str | bytes | msgspec.Raw) -> Any:
    """Decode the JSON in `text`. Raises DecodeError."""
    try:
        return msgspec.json.decode(text)
    except DECODE_ERRORS as error:
        raise DecodeError(f"not JSON: {error}") from error


def plain(value: Any) -> Any:
    """Return `value` as a reader of its JSON sees it: dicts, lists, strings, numbers. Raises EncodeError."""
    return decode(encode(value))


def encode_payload(payload: Any) -> msgspec.Raw | bytes:
    """Encode the payload of a broadcast, once for all its receivers; ``bytes`` stay binary."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    if isinstance(payload, msgspec.Raw):
        return payload
    return msgspec.Raw(encode(payload))
