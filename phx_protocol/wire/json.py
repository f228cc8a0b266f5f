"""JSON as the wire speaks it: msgspec, since its answers are Phoenix's.

Integers of any size are exact, ``-0.0`` stays, duplicate keys count last, ``1e400``,
``NaN`` and a lone surrogate are refused.
"""

from __future__ import annotations

from collections import UserList
from functools import singledispatch
from typing import Any

import msgspec

from ..exceptions import DecodeError, EncodeError

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


@singledispatch
def json_default(value: object) -> Any:
    """Turn a value that msgspec does not know into one that it does.

    A ``functools.singledispatch`` function: ``@json_default.register`` teaches the wire
    another type. Django's own types are registered when the app is loaded; what has a
    ``model_dump`` is one of pydantic's.
    """
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
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
        if encoded.find(b"[", 1) < 0 or b"[]" not in encoded:
            return encoded
        return _encode(_shown(value))
    except ENCODE_ERRORS as error:
        raise EncodeError(f"this cannot be encoded as JSON: {error}") from error


def _shown(value: Any) -> Any:
    """`value` with the items of every UserList that is a ``list`` too, as a form's errors are.

    msgspec takes it for the list that it derives from, which is empty.
    """
    if isinstance(value, UserList):
        return _shown(json_default(value))
    if isinstance(value, dict):
        return {key: _shown(of_key) for key, of_key in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    return value


def decode(text: str | bytes | msgspec.Raw) -> Any:
    """The value that `text` spells. Raises DecodeError."""
    try:
        return msgspec.json.decode(text)
    except DECODE_ERRORS as error:
        raise DecodeError(f"not JSON: {error}") from error


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
