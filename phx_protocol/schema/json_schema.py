"""JSON Schema (2020-12) of all types, and which event has which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..payloads import PayloadType, PydanticType
from .contract import Contract, Event, Mount, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def types_of(contract: Contract) -> Iterator[PayloadType]:
    """Every declared type, as often as it is declared."""
    for topic in (topic for mount in contract for topic in mount.topics):
        for event in (topic.join, *topic.events):
            yield from (t for t in (event.payload, *event.replies.values()) if t)
        yield from (push.payload for push in topic.pushes if push.payload)


class Schemas:
    """The schemas of types: each where it is used, the named ones once, under `prefix`."""

    def __init__(self, types: Iterable[PayloadType], prefix: str) -> None:
        wanted = {declared.annotation: declared for declared in types}
        plain = [a for a, t in wanted.items() if not isinstance(t, PydanticType)]
        schemas, self.named = msgspec.json.schema_components(
            plain, ref_template=f"{prefix}{{name}}"
        )
        self._of = dict(zip(plain, schemas, strict=True))
        for annotation in wanted:
            if annotation not in self._of:
                self._of[annotation] = self._pydantic(annotation, prefix)
        _drop_discriminators([self.named, self._of])

    def _pydantic(self, model: Any, prefix: str) -> Schema:
        schema = model.model_json_schema(ref_template=f"{prefix}{{model}}")
        self.named.update(schema.pop("$defs", {}))
        self.named[model.__name__] = schema
        return {"$ref": f"{prefix}{model.__name__}"}

    def of(self, declared: PayloadType | None) -> Schema:
        """The schema of a type; that of anything for None."""
        return {} if declared is None else self._of[declared.annotation]


def _drop_discriminators(part: Any) -> None:
    """They are OpenAPI's; JSON Schema has none, and AsyncAPI has another kind."""
    if isinstance(part, dict):
        if "propertyName" in part.get("discriminator", ()):
            del part["discriminator"]
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        _drop_discriminators(inner)


def write(contract: Contract, title: str, version: str) -> str:
    schemas = Schemas(types_of(contract), "#/$defs/")
    document = {
        "$schema": DIALECT,
        "title": title,
        "version": version,
        "sockets": {mount.path: _mount(mount, schemas) for mount in contract},
        "$defs": schemas.named,
    }
    return pretty(document)


def pretty(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def described(doc: str, **others: Any) -> Schema:
    return {**({"description": doc} if doc else {}), **others}


def _mount(mount: Mount, schemas: Schemas) -> Schema:
    topics = {topic.pattern: _topic(topic, schemas) for topic in mount.topics}
    return described(mount.doc, transports=mount.transports, topics=topics)


def _topic(topic: Topic, schemas: Schemas) -> Schema:
    return described(
        topic.doc,
        join=_event(topic.join, schemas),
        events={event.name: _event(event, schemas) for event in topic.events},
        pushes={
            push.name: described(push.doc, payload=schemas.of(push.payload))
            for push in topic.pushes
        },
    )


def _event(event: Event, schemas: Schemas) -> Schema:
    replies = {
        status: schemas.of(declared) for status, declared in event.replies.items()
    }
    return described(event.doc, payload=schemas.of(event.payload), replies=replies)
