"""Kinds of types: does an annotation declare anything, and who decodes it, msgspec or pydantic."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

#: annotations that declare nothing
UNTYPED = (Any, object, dict, bytes, Mapping, inspect.Parameter.empty)


def says_nothing(annotation: Any) -> bool:
    """Return True if `annotation` lets every payload pass: ``Any``, ``dict[str, Any]`` and the like."""
    origin = typing.get_origin(annotation)
    if origin not in (dict, Mapping):
        return (origin or annotation) in UNTYPED
    key, value = typing.get_args(annotation) or (Any, Any)
    return key in (str, Any) and value in (Any, object)


def is_pydantics(annotation: Any) -> bool:
    """Return True if only pydantic can decode `annotation`."""
    if "pydantic" not in sys.modules:  # a model can exist only if it is imported
        return False
    own = ("__pydantic_validator__", "__get_pydantic_core_schema__")
    is_type = isinstance(annotation, type) and any(hasattr(annotation, n) for n in own)
    module = type(annotation).__module__.partition(".")[0]
    return is_type or module in ("pydantic", "annotated_types")


def is_for_pydantic(annotation: Any) -> bool:
    """Return True if pydantic has to decode all of it: it contains a model, or msgspec refuses it."""
    if any(map(is_pydantics, _members_within(annotation))):
        return True
    try:
        msgspec.json.Decoder(annotation, dec_hook=_as_it_is)
    except TypeError:  # for example two dataclasses in a union
        return _is_installed()
    except Exception:
        pass  # a class that is defined further down: found when it is used first
    return False


def _is_installed() -> bool:
    try:
        import pydantic  # noqa: F401
    except ImportError:
        return False
    return True


def _members_within(annotation: Any) -> Iterator[Any]:
    """Yield `annotation` and the types that it is composed of, but not the fields of classes."""
    yield annotation
    origin = typing.get_origin(annotation)
    if origin is Literal or hasattr(origin, "__struct_fields__"):
        return
    inner = getattr(annotation, "__value__", None)  # of a ``type`` statement
    metadata = getattr(annotation, "__metadata__", ())
    for part in (*typing.get_args(annotation), *metadata, *([inner] if inner else ())):
        yield from _members_within(part)


def must_be_known(annotation: Any) -> None:
    """Raise TypeError if a part of `annotation` can be decoded neither by msgspec nor by pydantic."""
    msgspec.json.Decoder(annotation, dec_hook=_as_it_is)
    for found in custom_types(annotation):
        if not is_pydantics(found):
            raise TypeError(f"{found!r} is a type that cannot be checked")


def custom_types(annotation: Any) -> Iterator[Any]:
    """Return the types in `annotation` that msgspec passes to a hook."""
    found = []

    def look(custom: Any) -> dict[str, Any]:
        found.append(custom)
        return {"title": str(custom)}

    msgspec.json.schema(annotation, schema_hook=look)
    yield from found


def _as_it_is(kind: Any, value: Any) -> Any:
    """Stand for the hook that decodes what msgspec does not know."""
    return value
