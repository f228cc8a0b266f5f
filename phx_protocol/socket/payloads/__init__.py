"""Declared types of payloads: received payloads are decoded and checked, sent ones are checked.

A type is a ``msgspec.Struct``, a dataclass, a TypedDict, a pydantic model, or anything else that
``msgspec.convert`` or a ``pydantic.TypeAdapter`` makes. ``Any``, ``dict``, ``Mapping`` and ``bytes``
declare nothing. ``kinds`` decides which of the two libraries decodes a type.
"""

from .kinds import custom_types
from .payload_type import PayloadType, PydanticType
from .replies import ANY_STATUS, Replies

__all__ = ["ANY_STATUS", "PayloadType", "PydanticType", "Replies", "custom_types"]
