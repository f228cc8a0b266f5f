from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phx_protocol.exceptions import DecodeError, EncodeError
from phx_protocol.state import Position
from phx_protocol.testing import decode_frame
from phx_protocol.wire import json
from phx_protocol.wire.messages import Broadcast, Message, Reply
from phx_protocol.wire.serializers import (
    V1JSONSerializer,
    V2JSONSerializer,
    for_version,
    parse_requirement,
)

V1, V2 = V1JSONSerializer(), V2JSONSerializer()

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAME = TEXT.filter(lambda text: len(text.encode()) <= 255)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
MAPS = st.dictionaries(TEXT, JSON, max_size=3)


@given(JSON, JSON, TEXT, TEXT, MAPS)
def test_a_v2_text_frame_comes_back_as_it_was(
    join_ref: Any, ref: Any, topic: str, event: str, payload: Any
) -> None:
    frame = json.encode([join_ref, ref, topic, event, payload]).decode()
    assert V2.decode(frame) == Message(join_ref, ref, topic, event, payload)


@given(JSON, TEXT, TEXT, MAPS)
def test_the_frame_of_a_v2_push_has_its_five_parts(
    join_ref: Any, topic: str, event: str, payload: Any
) -> None:
    frame = V2.encode(Message(join_ref, None, topic, event, payload))
    assert isinstance(frame, str)
    assert json.decode(frame) == [join_ref, None, topic, event, payload]


@given(NAME, NAME, NAME, NAME, st.binary())
def test_a_binary_push_comes_back_as_it_was(
    join_ref: str, ref: str, topic: str, event: str, data: bytes
) -> None:
    meta = [field.encode() for field in (join_ref, ref, topic, event)]
    frame = bytes((0, *map(len, meta))) + b"".join(meta) + data
    assert V2.decode(frame) == Message(join_ref, ref, topic, event, data)


@given(NAME, NAME, NAME, NAME, st.binary())
def test_binary_frames_of_the_server_have_their_own_layouts(
    join_ref: str, ref: str, topic: str, word: str, data: bytes
) -> None:
    assume(Position.parse(ref) is None)
    push = V2.encode(Message(join_ref, None, topic, word, data))
    reply = V2.encode(Reply(join_ref, ref, topic, word, data))
    broadcast = V2.fastlane(Broadcast(topic, word, data))
    assert decode_frame(push) == [join_ref, None, topic, word, data]
    body = {"status": word, "response": data}
    assert decode_frame(reply) == [join_ref, ref, topic, "phx_reply", body]
    assert decode_frame(broadcast) == [None, None, topic, word, data]


@given(NAME, st.integers(0), NAME, NAME, st.binary())
def test_an_offset_makes_a_binary_frame_one_with_the_layout_of_a_reply(
    join_ref: str, n: int, topic: str, event: str, data: bytes
) -> None:
    """It is the only one with room for a ref.."""
    offset = f"e1-{n}"
    push = V2.encode(Message(join_ref, offset, topic, event, data))
    broadcast = V2.fastlane(Broadcast(topic, event, data, offset))
    assert isinstance(push, bytes) and isinstance(broadcast, bytes)
    assert push[0] == broadcast[0] == 1
    assert decode_frame(push) == [join_ref or None, offset, topic, event, data]
    assert decode_frame(broadcast) == [None, offset, topic, event, data]


@given(JSON, TEXT, TEXT, JSON)
def test_a_v1_frame_comes_back_as_it_was(
    ref: Any, topic: str, event: str, payload: Any
) -> None:
    frame = V1.encode(Message("not sent", ref, topic, event, payload))
    assert V1.decode(frame) == Message(None, ref, topic, event, payload)


@given(st.text() | st.binary())
@pytest.mark.parametrize("serializer", [V1, V2])
def test_nothing_but_decode_error_comes_out_of_decode(
    serializer: Any, frame: str | bytes
) -> None:
    try:
        message = serializer.decode(frame)
    except DecodeError:
        return
    assert isinstance(message, Message)


@pytest.mark.parametrize(
    "frame",
    [
        "[" * 100_000,
        '["1","1","t","e",' + "[" * 50_000 + "]" * 50_000 + "]",
        '["1","1","t","e",' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "]",
        '["1","1","t","e",' + "9" * 10_000 + "]",
        '["1","1","t","e","\\ud800"]',
        '["1","1","t","e","\ud800"]',
        '["1","1","t","e",1e400]',
        b"\x00\xff\xff\xff\xff",
        b"\x00\x01\x01\x02\x04" + b"11\xff\xfeecho",
        b"",
    ],
)
@pytest.mark.parametrize("serializer", [V1, V2])
def test_every_error_of_a_decoder_is_a_decode_error(
    serializer: Any, frame: str | bytes
) -> None:
    with pytest.raises(DecodeError):
        serializer.decode(frame)


@pytest.mark.parametrize("payload", [[], "text", 1, None, True])
def test_v2_pushes_and_broadcasts_only_maps(payload: Any) -> None:
    with pytest.raises(EncodeError, match="mapping"):
        V2.encode(Message("1", None, "t", "e", payload))
    with pytest.raises(EncodeError, match="mapping"):
        V2.fastlane(Broadcast("t", "e", json.encode_payload(payload)))


def test_v1_cannot_be_sent_bytes() -> None:
    with pytest.raises(EncodeError):
        V1.fastlane(Broadcast("t", "e", b"data"))
    with pytest.raises(EncodeError):
        V1.encode(Reply("1", "1", "t", "ok", b"data"))


def test_binary_fields_are_255_bytes_at_the_most() -> None:
    V2.encode(Message("1", None, "é" * 127, "e", b""))
    with pytest.raises(EncodeError, match="255"):
        V2.encode(Message("1", None, "é" * 128, "e", b""))


def test_refs_of_binary_frames_are_written_as_elixir_does() -> None:
    assert decode_frame(V2.encode(Message(None, None, "t", "e", b"")))[0] == ""
    assert decode_frame(V2.encode(Message(12, None, "t", "e", b"")))[0] == "12"


def test_keys_come_in_the_order_of_phoenix() -> None:
    assert V1.encode(Reply("1", "2", "t", "ok", {})) == (
        '{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"2","topic":"t"}'
    )
    assert (
        V2.fastlane(Broadcast("t", "e", msgspec.Raw(b'{"a":1}')))
        == '[null,null,"t","e",{"a":1}]'
    )


@pytest.mark.parametrize(
    "vsn, serializer",
    [
        ("1.0.0", V1JSONSerializer),
        ("1.0.7", V1JSONSerializer),
        ("2.0.0", V2JSONSerializer),
        ("2.0.7", V2JSONSerializer),
        ("2.0.1-rc.1", V2JSONSerializer),
        ("2.0.0+build.1", V2JSONSerializer),
        *[
            (vsn, type(None))
            for vsn in ("2.0.0-rc.1", "2.1.0", "2", "2.0", "", "v2.0.0", "02.0.0")
        ],
        *[
            (vsn, type(None))
            for vsn in (None, ["2.0.0"], {"a": "2.0.0"}, "2.0.0\n", "٢.0.0")
        ],
    ],
)
def test_the_version_chooses_the_serializer(vsn: Any, serializer: type) -> None:
    assert type(for_version(vsn)) is serializer


def test_a_requirement_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="X.Y.Z"):
        parse_requirement(">= 2.0")
