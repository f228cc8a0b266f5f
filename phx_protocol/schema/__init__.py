"""The contract of a project's sockets, written as AsyncAPI, TypeScript or JSON Schema."""

from __future__ import annotations

from . import asyncapi, json_schema, typescript
from .contract import Contract, contract

#: format -> the function that writes a contract in it
FORMATS = {
    "asyncapi": asyncapi.write,
    "json-schema": json_schema.write,
    "typescript": typescript.write,
}

__all__ = ["FORMATS", "Contract", "contract"]
