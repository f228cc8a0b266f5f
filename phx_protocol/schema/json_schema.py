"""The contract as JSON Schema (2020-12): all types, and the events that use them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from ..socket.payloads import PayloadType, PydanticType, custom_types
from .contract import Contract, Event, Mount, Topic, unique

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

#: the endings that pydantic gives to the two schemas of one model
READ, WRITTEN = "-Input", "-Output"

#: "validation" for a type that is read, "serialization" for one that is written: a model of
#: pydantic may have a schema for each
Mode = Literal["validation", "serialization"]


def types_of(contract: Contract) -> Iterator[tuple[PayloadType, Mode]]:
    """Yield every declared type, as often as it is declared, and whether it is read or written."""
    for topic in (topic for mount in contract for topic in mount.topics):
        for event in (topic.join, *topic.events):
            if event.payload:
                yield event.payload, "validation"
            yield from ((t, "serialization") for t in event.replies.values() if t)
        yield from ((p.payload, "serialization") for p in topic.pushes if p.payload)


class Schemas:
    """The schemas of types. Those with names are written once, and referred to under `prefix`.

    No two types have the same name, whether msgspec or pydantic named them.
    """

    def __init__(self, types: Iterable[tuple[PayloadType, Mode]], prefix: str) -> None:
        self._prefix = prefix
        modes = dict(types)
        plain = [t for t in modes if not isinstance(t, PydanticType)]
        within = _within(plain, modes)
        of_models = [(t, modes[t]) for t in modes if t not in plain]
        of_models += [(t, mode) for t, mode in within.values()]
        # msgspec's names come first; pydantic's models get other ones
        _, named = self._of_msgspec(plain, {kind: {"title": ""} for kind in within})
        models, of_pydantic = self._of_pydantic(of_models)
        alike = self._alike(of_pydantic)
        models, of_pydantic = self._renamed((models, of_pydantic), alike)
        taken, fresh = set(named), {}
        for name in of_pydantic:
            fresh[name] = unique(name, taken)
        models, of_pydantic = self._renamed((models, of_pydantic), fresh)
        hooked = {kind: models[t] for kind, (t, _) in within.items()}
        schemas, named = self._of_msgspec(plain, hooked)
        self.named: dict[str, Schema] = {**named, **of_pydantic}
        self._of = {**models, **dict(zip(plain, schemas, strict=True))}
        _drop_discriminators([self.named, list(self._of.values())])

    def of(self, declared: PayloadType | None) -> Schema:
        """Return the schema of a type; for None, the schema that allows any value."""
        return {} if declared is None else self._of[declared]

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename the named schemas: old name -> new name."""
        self.named, self._of = self._renamed((self.named, self._of), names)

    def _of_msgspec(
        self, types: list[PayloadType], hooked: Mapping[Any, Schema]
    ) -> tuple[tuple[Schema, ...], dict[str, Schema]]:
        annotations = [t.annotation for t in types]
        with _told_apart(annotations) as names:
            schemas, named = msgspec.json.schema_components(
                annotations,
                schema_hook=lambda kind: {**hooked[kind]},
                ref_template=f"{self._prefix}{{name}}",
            )
        for schema in named.values():
            if schema.get("title") in names:
                schema["title"] = names[schema["title"]]
        return schemas, named

    def _of_pydantic(
        self, types: list[tuple[PayloadType, Mode]]
    ) -> tuple[dict[PayloadType, Schema], dict[str, Schema]]:
        if not types:
            return {}, {}
        import pydantic

        inputs: list[Any] = [
            (at, mode, pydantic.TypeAdapter(t.annotation))
            for at, (t, mode) in enumerate(types)
        ]
        schemas, rest = pydantic.TypeAdapter.json_schemas(
            inputs, by_alias=True, ref_template=f"{self._prefix}{{model}}"
        )
        of = {t: schemas[at, mode] for at, (t, mode) in enumerate(types)}
        return of, rest.get("$defs", {})

    def _alike(self, named: Mapping[str, Schema]) -> dict[str, str]:
        """Return new names for models whose read and written schemas are alike: one for both.

        Pydantic makes two schemas for a recursive model even if they are alike.
        """
        pairs = {
            name: other
            for name in named
            for other in named
            if name.endswith(WRITTEN) and other.endswith(READ)
            if _bare(name) == _bare(other)
            and named[name].get("title") == named[other].get("title")
        }
        before = -1
        while before != len(
            pairs
        ):  # if two schemas differ, those that refer to them differ too
            before = len(pairs)
            refs = {
                f"{self._prefix}{a}": f"{self._prefix}{b}" for a, b in pairs.items()
            }
            pairs = {
                name: other
                for name, other in pairs.items()
                if _refer(named[name], refs) == _refer(named[other], refs)
            }
        taken = set(named)
        one = {
            other: unique(other.removesuffix(READ), taken) for other in pairs.values()
        }
        return {**one, **{name: one[other] for name, other in pairs.items()}}

    def _renamed(
        self,
        schemas: tuple[dict[PayloadType, Schema], dict[str, Schema]] | Any,
        names: Mapping[str, str],
    ) -> Any:
        """Return the two mappings of schemas (by type, by name) with the new names."""
        refs = {
            f"{self._prefix}{old}": f"{self._prefix}{new}" for old, new in names.items()
        }
        return tuple(
            {
                (names.get(key, key) if isinstance(key, str) else key): _refer(
                    schema, refs
                )
                for key, schema in by.items()
            }
            for by in schemas
        )


def _bare(name: str) -> str:
    """Return a name of pydantic's without the module and without ``-Input`` or ``-Output``."""
    return name.removesuffix(READ).removesuffix(WRITTEN).rpartition("__")[2]


def _within(
    types: list[PayloadType], modes: Mapping[PayloadType, Mode]
) -> dict[Any, tuple[PayloadType, Mode]]:
    """Return the pydantic types that are part of msgspec `types`, each with its mode."""
    found: dict[Any, tuple[PayloadType, Mode]] = {}
    for declared in types:
        for kind in custom_types(declared.annotation):
            if kind not in found or modes[declared] == "validation":
                found[kind] = PydanticType(kind), modes[declared]
    return found


def _refer(part: Any, refs: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_refer(inner, refs) for inner in part]
    if not isinstance(part, dict):
        return part
    referred = {name: _refer(inner, refs) for name, inner in part.items()}
    if isinstance(ref := part.get("$ref"), str):
        referred["$ref"] = refs.get(ref, ref)
    return referred


@contextlib.contextmanager
def _told_apart(annotations: list[Any]) -> Iterator[Mapping[str, str]]:
    """Give each class a unique name while msgspec names schemas after classes.

    Msgspec distinguishes two classes with the same name by their modules, but neither two of one
    module nor two ``Page[Message]``. Yields new name -> old.
    """
    classes = dict.fromkeys(_classes(msgspec.inspect.multi_type_info(annotations)))
    often = Counter(known.__name__ for known in classes)
    old = {known: known.__name__ for known in classes if often[known.__name__] > 1}
    taken = {known.__name__ for known in classes}
    try:
        for known, name in old.items():
            known.__name__ = unique(f"{known.__module__}.{name}", taken)
        yield {known.__name__: name for known, name in old.items()}
    finally:
        for known, name in old.items():
            known.__name__ = name


def _classes(infos: Any) -> Iterator[type]:
    """Yield the classes after which msgspec names a schema, from its information about types."""
    seen: set[int] = set()
    waiting = list(infos)
    while waiting:
        info = waiting.pop()
        if isinstance(info, (list, tuple)):
            waiting += info
        elif type(info).__module__ == "msgspec.inspect" and id(info) not in seen:
            seen.add(id(info))
            yield from _origins(getattr(info, "cls", None))
            waiting += [getattr(info, name) for name in info.__struct_fields__]


def _origins(known: Any) -> Iterator[type]:
    """Yield a class, or the classes of a generic type."""
    for part in (typing.get_origin(known) or known, *typing.get_args(known)):
        if typing.get_origin(part) is not None:
            yield from _origins(part)
        elif isinstance(part, type) and (
            hasattr(part, "__struct_fields__")
            or dataclasses.is_dataclass(part)
            or issubclass(part, (enum.Enum, tuple))
            or typing.is_typeddict(part)
        ):
            yield part


def _drop_discriminators(part: Any) -> None:
    """Remove discriminators: they belong to OpenAPI, and AsyncAPI has a different kind."""
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
