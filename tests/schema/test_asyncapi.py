"""AsyncAPI: what the official parser makes of the document."""

from __future__ import annotations

import json
from pathlib import Path

from tests.schema.workshop import parse_asyncapi, workshop, written

__all__ = ["workshop"]


def test_the_official_parser_finds_nothing_wrong_with_the_asyncapi_document(
    workshop: Path,
) -> None:
    parsed = parse_asyncapi(workshop, written("asyncapi"))
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    # of the room five messages of clients and six pushes, twice; two lobbies with a join each
    assert json.loads(parsed.stdout) == {"operations": 24, "channels": 4}


def test_the_official_parser_finds_a_mistake(workshop: Path) -> None:
    document = json.loads(written("asyncapi"))
    operation = next(iter(document["operations"].values()))
    operation["channel"] = {"$ref": "#/channels/nowhere"}
    assert parse_asyncapi(workshop, json.dumps(document)).returncode == 1
