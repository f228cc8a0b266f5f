from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phx_protocol.pubsub.message import Unreadable, group_name, pack, pack_item, unpack
from phx_protocol.wire.messages import Broadcast


@given(st.text())
def test_a_group_name_is_one_that_every_layer_takes(topic: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9\-_.]{1,99}", group_name(topic))


def test_the_metadata_of_a_broadcast_is_unpacked_too() -> None:
    metadata = 1.5, {"traceparent": "00-1-1-01"}
    broadcast = Broadcast("t", "e", msgspec.Raw(b"{}"), None, *metadata)
    message = pack([pack_item(broadcast)], "node")
    assert list(unpack(message)) == [broadcast]


def test_topics_that_look_alike_never_share_a_group() -> None:
    assert group_name("room:1") != group_name("room.1")
    assert group_name("a" * 50 + "b") != group_name("a" * 50 + "c")


@pytest.mark.parametrize("payload", [msgspec.Raw(b'{"a":1}'), b"\x00\xff"])
def test_a_broadcast_comes_out_as_it_went_in(payload: Any) -> None:
    broadcast = Broadcast("room:1", "new_msg", payload, sender="sender")
    message = pack([pack_item(broadcast)], "node")
    assert list(unpack(message)) == [broadcast]


def test_foreign_code_may_send_a_dict_or_json() -> None:
    items = [{"topic": "t", "event": "e", "payload": p} for p in ({"a": 1}, '{"a": 2}')]
    unpacked = [b.payload for b in unpack(pack(items, None))]
    assert [bytes(payload) for payload in unpacked] == [b'{"a":1}', b'{"a": 2}']


@pytest.mark.parametrize(
    "message",
    [
        {"type": "phx.broadcast"},
        {"type": "phx.broadcast", "v": 2, "items": []},
        {"type": "phx.broadcast", "v": 1, "items": [], "colour": "red"},
        {"type": "phx.broadcast", "v": 1, "node": None, "items": [{"topic": "t"}]},
        {
            "type": "phx.broadcast",
            "v": 1,
            "items": [{"topic": 1, "event": "e", "payload": {}}],
        },
        {
            "type": "phx.broadcast",
            "v": 1,
            "items": [{"topic": "t", "event": "e", "payload": "{"}],
        },
        {"type": "phx.broadcast", "v": 1, "items": ["text"]},
        *(
            {
                "type": "phx.broadcast",
                "v": 1,
                "items": [{"topic": "t", "event": "e", "payload": {}, **metadata}],
            }
            for metadata in (
                {"at": "now"},
                {"headers": "traceparent"},
                {"headers": {"traceparent": 1}},
                {"headers": {1: "traceparent"}},
            )
        ),
    ],
)
def test_a_message_of_an_unknown_form_is_unreadable(message: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        list(unpack(message))
