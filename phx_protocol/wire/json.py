"""JSON as the wire speaks it: msgspec, since its answers are Phoenix's.

Integers of any size are exact, ``-0.0`` stays, duplicate keys count last, ``1e400``,
``NaN`` and a lone surrogate are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections import UserList
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import msgspec

from ..exceptions import DecodeError, EncodeError
from ..logs.printable import said

# What decoding really raises, beside msgspec's own errors (a ValueError): deep nesting
# ends in RecursionError, text that is not UTF-8 in UnicodeError (a ValueError).
DECODE_ERRORS = (ValueError, RecursionError)
ENCODE_ERRORS = (
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)

#: bytes or characters from which on JSON is decoded without the garbage collector
LARGE = 32 * 1024


@singledispatch
def json_default(value: object) -> Any:
    """Turn a value that msgspec does not know into one that it does.

    A ``functools.singledispatch`` function: ``@json_default.register`` teaches the wire
    another type. Django's own types are registered when the app is loaded; what has a
    ``model_dump`` is one of pydantic's, and goes out by its aliases.
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
    """`value` as compact JSON in UTF-8. Raises EncodeError."""
    try:
        encoded = _encode(value)
        # An empty list may hide its items. Most frames have no list in them, and to look for one
        # byte takes a third of the time that two take.
        if encoded.find(b"[", 1) < 0 or b"[]" not in encoded or not _hides(value):
            return encoded
        return _encode(_shown(value))
    except ENCODE_ERRORS as error:
        raise EncodeError(f"this cannot be encoded as JSON: {said(error)}") from error


# A form's errors are UserLists that are a ``list`` too: msgspec takes one for the list that it
# derives from, which is empty.


def _hides(value: Any) -> bool:
    """Whether there is such a list in `value`.

    A client may have sent what is looked through: level by level, in a few calls for each, costs
    some times what encoding costs. What the collector does not track has no list in it.
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
    """The values that `value`, which is none of those above, is encoded with."""
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
    """`value` with plain lists in place of those that hide their items.

    It takes one call a level, as the encoder does: what can be encoded can be copied.
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
    """Set a field, of a frozen object too."""
    if isinstance(value, msgspec.Struct):
        msgspec.structs.force_setattr(value, name, to)
    else:
        object.__setattr__(value, name, to)


def decode(text: str | bytes | msgspec.Raw) -> Any:
    """The value that `text` spells. Raises DecodeError."""
    try:
        if len(text if isinstance(text, (str, bytes)) else memoryview(text)) < LARGE:
            return msgspec.json.decode(text)
        return _decode_large(text)
    except DECODE_ERRORS as error:
        raise DecodeError(f"not JSON: {error}") from error


def _decode_large(text: str | bytes | msgspec.Raw) -> Any:
    """Decode without the garbage collector, which would look for cycles in what has none.

    It looks at all that is new again and again while there is more of it: of 1 MiB of lists that
    takes 240 ms, and decoding 40 ms.
    """
    if not gc.isenabled():
        return msgspec.json.decode(text)
    gc.collect(1)  # what others have thrown away is not to become old with the rest
    counted = min(gc.get_count()[2], gc.get_threshold()[2] + 1)
    gc.disable()
    try:
        return msgspec.json.decode(text)
    finally:
        if not gc.get_freeze_count():
            # all that is new is old now, and the next collection does not look at it
            gc.freeze()
            gc.unfreeze()
            # that has forgotten how many collections there were since the last one of what is old,
            # which would never come while large payloads do; of nothing each takes no time
            for _ in range(counted):
                gc.collect(1)
        gc.enable()


def plain(value: Any) -> Any:
    """`value` as who reads its JSON has it: dicts, lists, strings, numbers. Raises EncodeError."""
    return decode(encode(value))


def encode_payload(payload: Any) -> msgspec.Raw | bytes:
    """`payload` of a broadcast, encoded once for all who will get it; ``bytes`` stay binary."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    if isinstance(payload, msgspec.Raw):
        return payload
    return msgspec.Raw(encode(payload))
