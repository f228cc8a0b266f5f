"""JSON Schema: each type is named once, and types with the same name get different names."""

from __future__ import annotations

import json
from typing import Any

from tests.schema import namesakes
from tests.schema.workshop import written


def test_json_schema_names_each_type_once_and_every_reference_leads_somewhere() -> None:
    document = json.loads(written("json-schema"))
    named = document["$defs"]
    assert {"NewMessage", "Message", "Author", "Order", "Line"} <= set(named)
    assert named["NewMessage"]["description"] == "What a client wants to say."
    references = []

    def look(part: Any) -> None:
        if isinstance(part, dict):
            references.extend([part["$ref"]] if "$ref" in part else [])
            part = list(part.values())
        for inner in part if isinstance(part, list) else ():
            look(inner)

    look(document)
    assert references
    assert {r.removeprefix("#/$defs/") for r in references} <= set(named)


def test_json_schema_tells_types_of_one_name_apart() -> None:
    named = json.loads(written("json-schema", namesakes.SOCKETS))["$defs"]
    properties = [set(schema.get("properties", ())) for schema in named.values()]
    for fields in (
        *({"of_struct"}, {"of_other_struct"}, {"of_model"}, {"of_other_model"}),
        *({"one"}, {"two"}, {"text", "replies"}, {"of_other_comment"}),
        *({"accountId", "secret"}, {"id", "initial"}),
    ):
        assert properties.count(fields) == 1, fields
    titles = [schema["title"] for schema in named.values() if "title" in schema]
    assert titles.count("Message") == 2
    assert namesakes.Message.__name__ == namesakes.other.Message.__name__ == "Message"
    # nothing but a reference would be a type that is itself
    assert not any(set(schema) == {"$ref"} for schema in named.values())
