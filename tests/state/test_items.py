"""Broadcasts to keep, as the scripts of histories have them."""

from __future__ import annotations

import msgspec

from phx_protocol.state import Had, Position, Row
from phx_protocol.state.items import ITEM_BYTES, ITEMS, append_args, appended, bundles
from tests.support.state import item


def test_a_refused_row_has_a_negative_number() -> None:
    found = appended([b"e1", b"7", b"e1", b"-7"])
    assert found == [Position("e1", 7), Position("e1", 7)]
    assert [isinstance(one, Had) for one in found] == [False, True]


def test_an_item_has_the_number_of_its_row_or_none() -> None:
    plain = item("id", "topic")
    assert append_args(plain)[-2:] == ("", 0)
    assert append_args(plain._replace(row=Row("db", 7)))[-2:] == ("db", 7)


def test_a_bundle_is_limited_in_number_and_bytes() -> None:
    many = [item(str(n), "topic") for n in range(2 * ITEMS + 1)]
    assert [len(bundle) for bundle in bundles(many)] == [ITEMS, ITEMS, 1]
    large = msgspec.Raw(b"{}" + b" " * (ITEM_BYTES // 2))
    some = [one._replace(payload=large) for one in many[:5]]
    assert [len(bundle) for bundle in bundles(some)] == [2, 2, 1]
