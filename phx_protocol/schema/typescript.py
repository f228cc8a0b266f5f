"""The contract as TypeScript: phoenix.js's channels with typed ``push``, ``on`` and ``receive``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..socket.payloads import ANY_STATUS, PayloadType
from .contract import Contract, Event, Mount, Topic, unique
from .json_schema import Schema, Schemas, types_of

HEAD = """\
// {title}, {version}: made by manage.py phx_schema --format typescript

import type {{ Channel, Push, Socket }} from "phoenix"

/** An event that a client sends: its payload, and the response for each status. */
interface Exchange {{
  payload: unknown
  replies: object
}}

/** What a topic understands. */
interface Contract {{
  join: Exchange
  events: object
  pushes: object
}}

type PayloadOf<E> = E extends {{ payload: infer P }} ? P : never
type RepliesOf<E> = E extends {{ replies: infer R }} ? R : never
/** The response to an event that the server refuses, because of its payload or of a limit. */
export interface Refused {{
  reason: string
  errors?: {{ path: string; message: string }}[]
  more_errors?: number
  retry_after?: number
}}
type Response<R, S> = S extends keyof R ? (S extends "error" ? R[S] | Refused : R[S]) : S extends "error" ? Refused : unknown

/** phoenix.js's Push, with the response of each status. */
export interface TypedPush<R> extends Omit<Push, "receive"> {{
  receive(status: "timeout", callback: () => unknown): this
  receive<S extends (keyof R & string) | "error">(status: S, callback: (response: Response<R, S>) => unknown): this
}}

/** phoenix.js's Channel, with the events of one topic. */
export interface TypedChannel<C extends Contract> extends Omit<Channel, "join" | "push" | "on"> {{
  join(timeout?: number): TypedPush<RepliesOf<C["join"]>>
  push<E extends keyof C["events"] & string>(event: E, payload: PayloadOf<C["events"][E]>, timeout?: number): TypedPush<RepliesOf<C["events"][E]>>
  on<E extends keyof C["pushes"] & string>(event: E, callback: (payload: C["pushes"][E], ref?: string) => void): number
}}
"""

SOCKET = """\
/** The topics of {name} ({path}): the first that matches. */
export type {name}Topics<T extends string> = {choices}

/** `socket.channel`, for a topic of {name}. */
export function {function}<T extends string>(
  socket: Socket,
  topic: {name}Topics<T> extends never ? never : T,
  payload?: PayloadOf<{name}Topics<T>["join"]>,
): TypedChannel<{name}Topics<T>> {{
  return socket.channel(topic, payload as object | undefined) as unknown as TypedChannel<{name}Topics<T>>
}}
"""

#: names that TypeScript uses itself, but a Python class may have
TYPESCRIPTS = {
    *("Record", "Array", "any", "boolean", "never", "null", "number", "object"),
    *("string", "symbol", "undefined", "unknown", "void"),
}


def write(contract: Contract, title: str, version: str) -> str:
    schemas = Schemas(types_of(contract), "#/")
    taken = _own_names(contract)
    schemas.rename({n: unique(_identifier(n), taken) for n in schemas.named})
    parts = [HEAD.format(title=title, version=version)]
    parts += [_named(name, schema) for name, schema in schemas.named.items()]
    # a class may serve several patterns, and be mounted twice
    topics = {topic.name: topic for mount in contract for topic in mount.topics}
    parts += [_topic(topic, schemas) for topic in topics.values()]
    mounts = {mount.name: mount for mount in contract}
    parts += [_mount(mount, len(mounts) == 1) for mount in mounts.values()]
    return "\n".join(parts)


def _own_names(contract: Contract) -> set[str]:
    """Return the names that types must not get: those of the text above and of TypeScript."""
    own = set(re.findall(r"\b[A-Z]\w+", HEAD + SOCKET)) | TYPESCRIPTS
    for mount in contract:
        own |= {f"{mount.name}Topics", *(f"{t.name}Contract" for t in mount.topics)}
    return own


def _named(name: str, schema: Schema) -> str:
    return f"{_comment(schema.get('description', ''))}export type {_identifier(name)} = {type_of(schema)}\n"


def _topic(topic: Topic, schemas: Schemas) -> str:
    lines = [
        f"{_comment(topic.doc)}export interface {topic.name}Contract extends Contract {{"
    ]
    lines.append(f"  join: {_exchange(topic.join, schemas)}")
    lines.append("  events: {")
    for event in topic.events:
        doc = _comment(event.doc, "    ")
        lines.append(f"{doc}    {_quoted(event.name)}: {_exchange(event, schemas)}")
    lines += ["  }", "  pushes: {"]
    for push in topic.pushes:
        doc = _comment(push.doc, "    ")
        lines.append(
            f"{doc}    {_quoted(push.name)}: {_payload(push.payload, schemas)}"
        )
    if topic.is_open:
        lines.append("    [event: string]: any")
    lines += ["  }", "}", ""]
    return "\n".join(lines)


def _exchange(event: Event, schemas: Schemas) -> str:
    replies = ", ".join(
        f"{'[status: string]' if status == ANY_STATUS else _quoted(status)}: {_payload(declared, schemas)}"
        for status, declared in event.replies.items()
    )
    return (
        f"{{ payload: {_payload(event.payload, schemas)}; replies: {{ {replies} }} }}"
    )


def _payload(declared: PayloadType | None, schemas: Schemas) -> str:
    return "any" if declared is None else type_of(schemas.of(declared))


def _mount(mount: Mount, is_alone: bool) -> str:
    choices = "".join(
        f"\n  T extends {_topic_type(topic)} ? {topic.name}Contract :"
        for topic in mount.topics
    )
    function = (
        "channel" if is_alone else f"{mount.name[0].lower()}{mount.name[1:]}Channel"
    )
    return SOCKET.format(
        name=mount.name, path=mount.path, function=function, choices=f"{choices} never"
    )


def _topic_type(topic: Topic) -> str:
    if topic.is_exact:
        return _quoted(topic.pattern)
    return "`" + re.sub(r"([`$\\])", r"\\\1", topic.pattern[:-1]) + "${string}`"


def type_of(schema: Schema) -> str:
    """Return the TypeScript type of a JSON schema that msgspec or pydantic wrote."""
    if "$ref" in schema:
        return _identifier(schema["$ref"].removeprefix("#/"))
    if "const" in schema:
        return _quoted(schema["const"])
    if "enum" in schema:
        return " | ".join(map(_quoted, schema["enum"]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(dict.fromkeys(map(type_of, schema[union])))
    if "allOf" in schema:
        return " & ".join(f"({type_of(part)})" for part in schema["allOf"])
    kinds = schema.get("type", [])
    if isinstance(kinds, list):
        return " | ".join(type_of({**schema, "type": kind}) for kind in kinds) or "any"
    return _of_kind(kinds, schema)


def _of_kind(kind: str, schema: Schema) -> str:
    if kind == "object":
        return _object(schema)
    if kind == "array":
        return _array(schema)
    return {
        "integer": "number",
        "number": "number",
        "string": "string",
        "boolean": "boolean",
        "null": "null",
    }[kind]


def _object(schema: Schema) -> str:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    required = schema.get("required", [])
    fields = [
        f"{_name(name)}{'' if name in required else '?'}: {type_of(field)}"
        for name, field in properties.items()
    ]
    others = schema.get("additionalProperties", False)
    if others is not False and not fields:
        return f"Record<string, {'any' if others is True else type_of(others)}>"
    return f"{{ {'; '.join(fields)} }}" if fields else "Record<string, any>"


def _array(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(map(type_of, schema['prefixItems']))}]"
    items = schema.get("items", {})
    return f"Array<{type_of(items) if isinstance(items, dict) else 'any'}>"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name) else _quoted(name)


def _identifier(name: str) -> str:
    """Return the name of a schema (``Page_int_``, ``app.Message``) as a name in TypeScript."""
    return re.sub(r"\W+", "_", name)


def _comment(doc: str, indent: str = "") -> str:
    if not doc:
        return ""
    lines = doc.replace("*/", "*\\/").splitlines()
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    body = "\n".join(f"{indent} * {line}".rstrip() for line in lines)
    return f"{indent}/**\n{body}\n{indent} */\n"
