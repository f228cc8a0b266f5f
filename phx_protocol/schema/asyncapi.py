"""The contract as an AsyncAPI 3.0 document."""

from __future__ import annotations

import re
from typing import Any

from ..socket.payloads import ANY_STATUS
from .contract import Contract, Event, Mount, Topic
from .json_schema import Schema, Schemas, described, pretty, types_of

WIRE = (
    "Each message is a WebSocket frame of the Phoenix protocol, version 2.0.0: the JSON array "
    "[join_ref, ref, topic, event, payload]. The name of a message is its event, its payload is "
    "the frame's; a reply has the event phx_reply and the payload "
    '{"status": ..., "response": ...}.'
)


def write(contract: Contract, title: str, version: str) -> str:
    schemas = Schemas(types_of(contract), "#/components/schemas/")
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version, "description": WIRE},
        "defaultContentType": "application/json",
        "servers": {},
        "channels": {},
        "operations": {},
        "components": {"schemas": schemas.named},
    }
    for mount in contract:
        _add(document, mount, schemas)
    return pretty(document)


def _add(document: dict[str, Any], mount: Mount, schemas: Schemas) -> None:
    server = _key(mount.path)
    if "websocket" in mount.transports:
        document["servers"][server] = described(
            mount.doc,
            host="{host}",
            pathname=mount.transports["websocket"],
            protocol="ws",
            variables={"host": {"default": "localhost:8000"}},
        )
    for topic in mount.topics:
        key = f"{server}-{_key(topic.pattern)}"
        channel = _channel(topic, schemas)
        if server in document["servers"]:
            channel["servers"] = [{"$ref": f"#/servers/{server}"}]
        document["channels"][key] = channel
        document["operations"].update(_operations(topic, key))


def _channel(topic: Topic, schemas: Schemas) -> Schema:
    messages: dict[str, Schema] = {}
    for event in (topic.join, *topic.events):
        payload = schemas.of(event.payload)
        messages[_key(event.name)] = described(
            event.doc, name=event.name, payload=payload
        )
        for status, declared in event.replies.items():
            messages[_reply(event, status)] = {
                "name": "phx_reply",
                "title": f"{event.name}: {status}",
                "payload": _answer(status, schemas.of(declared)),
            }
    for push in topic.pushes:
        payload = schemas.of(push.payload)
        messages[f"push-{_key(push.name)}"] = described(
            push.doc, name=push.name, payload=payload
        )
    # AsyncAPI reads braces as parameters
    address = topic.pattern.rstrip("*").replace("{", "%7B").replace("}", "%7D")
    if not topic.is_exact:
        address += "{subtopic}"
    channel = described(topic.doc, address=address, title=topic.name, messages=messages)
    if not topic.is_exact:
        channel["parameters"] = {"subtopic": {"description": "What the * stands for."}}
    return channel


def _answer(status: str, response: Schema) -> Schema:
    allowed = {"type": "string"} if status == ANY_STATUS else {"const": status}
    return {
        "type": "object",
        "required": ["status", "response"],
        "properties": {"status": allowed, "response": response},
    }


def _operations(topic: Topic, key: str) -> dict[str, Schema]:
    """Return the server's operations: it receives events, replies to them, and sends pushes."""
    channel = {"$ref": f"#/channels/{key}"}

    def message(name: str) -> Schema:
        return {"$ref": f"#/channels/{key}/messages/{name}"}

    made = {}
    for event in (topic.join, *topic.events):
        made[f"{key}-{_key(event.name)}"] = {
            "action": "receive",
            "channel": channel,
            "messages": [message(_key(event.name))],
            "reply": {
                "channel": channel,
                "messages": [
                    message(_reply(event, status)) for status in event.replies
                ],
            },
        }
    for push in topic.pushes:
        made[f"{key}-push-{_key(push.name)}"] = {
            "action": "send",
            "channel": channel,
            "messages": [message(f"push-{_key(push.name)}")],
        }
    return made


def _reply(event: Event, status: str) -> str:
    return f"{_key(event.name)}-{'reply' if status == ANY_STATUS else _key(status)}"


def _key(name: str) -> str:
    """Return `name` as a key of the document: letters, digits, hyphens, and codes for the rest."""
    name = name.strip("/") or "root"
    return re.sub(
        r"[^A-Za-z0-9_]",
        lambda found: {":": "-", "*": "any"}.get(found[0], f"x{ord(found[0]):x}"),
        name,
    )
