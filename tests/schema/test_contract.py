"""The contract: every event, reply and push, as JSON Schema tells of them."""

from __future__ import annotations

import json

from tests.schema.workshop import written


def test_json_schema_tells_of_every_event_reply_and_push() -> None:
    sockets = json.loads(written("json-schema"))["sockets"]
    assert list(sockets) == ["/socket", "/back-office/v1"]
    topics = sockets["/socket"]["topics"]
    assert list(topics) == ["room:lobby", "room:*", "*"]
    room = topics["room:*"]
    assert room["description"].startswith("A room, in which people talk.")
    assert room["join"]["payload"] == {"$ref": "#/$defs/Entry"}
    assert room["events"]["new_msg"]["description"] == "Say something."
    assert set(room["events"]["new_msg"]["replies"]) == {"ok", "error"}
    assert set(room["events"]["move"]["replies"]) == {"ok", "blocked"}
    assert room["events"]["anything"] == {"payload": {}, "replies": {"*": {}}}
    declared = {"message", "part", "moved", "cleared"}
    assert set(room["pushes"]) == declared | {"presence_state", "presence_diff"}
