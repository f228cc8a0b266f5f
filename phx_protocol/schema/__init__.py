"""What the sockets of a project understand, for others to read: AsyncAPI, TypeScript, JSON Schema."""

from __future__ import annotations

from . import asyncapi, json_schema, typescript
from .contract import Contract, contract

#: format -> what writes a contract in it
FORMATS = {
    "asyncapi": asyncapi.write,
    "json-schema": json_schema.write,
    "typescript": typescript.write,
}

__all__ = ["FORMATS", "Contract", "contract"]
