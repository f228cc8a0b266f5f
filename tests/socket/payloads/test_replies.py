"""The replies that a callback declares by its return annotation."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import msgspec
import pytest

from phx_protocol import EncodeError
from phx_protocol.socket.payloads import Replies


class Saved(msgspec.Struct):
    id: int


class Vote(TypedDict):
    choice: Literal["yes", "no"]


def test_statuses_and_their_types_are_read_from_the_return_annotation() -> None:
    replies = Replies.of(
        tuple[Literal["ok", "fine"], Saved] | tuple[str, Vote] | Literal["none"] | None
    )
    assert replies is not None
    declared = {k: v and v.annotation for k, v in replies.declared.items()}
    assert declared == {"ok": Saved, "fine": Saved, "*": Vote, "none": None}
    assert Replies.of(str | None) is None


@pytest.mark.parametrize("annotation", [Any, dict, dict[str, Any], bytes, object])
def test_any_payload_with_any_status_is_no_declaration(annotation: Any) -> None:
    assert Replies.of(tuple[str, annotation]) is None


def test_a_status_that_is_not_declared_is_an_error() -> None:
    replies = Replies.of(tuple[Literal["ok"], Saved])
    assert replies is not None
    assert replies.sent("ok", Saved(1), "the reply") == Saved(1)
    with pytest.raises(EncodeError, match="^the reply is not as declared: the status"):
        replies.sent("fine", Saved(1), "the reply")
