"""Items: broadcasts to keep, and those that were kept, as the scripts of histories have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .base import Had, Item, Kept, Position, history_expiry, new_epoch
from .words import milliseconds, pairs, position

#: most broadcasts in one call, and their bytes
ITEMS = 100
ITEM_BYTES = 1024 * 1024


#: in Redis a binary payload begins with this; JSON never does
BINARY = b"\0"


def kept(
    n: bytes, ms: bytes, id: bytes, event: bytes, payload: bytes, sender: bytes
) -> Kept:
    """Return a broadcast that a script has read."""
    is_binary = payload[:1] == BINARY
    what = payload[1:] if is_binary else msgspec.Raw(payload)
    by = sender.decode() or None
    return Kept(int(n), id.decode(), event.decode(), what, by, int(ms) / 1000)


def append_args(item: Item) -> tuple[Any, ...]:
    """Return the arguments of ``lua/append.lua`` for a broadcast."""
    bytes, most = item.bytes, item.max_bytes
    # an item that is too large is not kept, it only takes its position: its payload is not sent
    payload = _marked(item.payload) if bytes <= most else b""
    what = item.id, item.event, payload, item.sender or "", bytes
    rest = milliseconds(history_expiry(item.ttl)), new_epoch()
    row = item.row or ("", 0)
    return *what, item.size, milliseconds(item.ttl), most, *rest, *row


def appended(answer: Sequence[Any]) -> list[Position]:
    """Return the positions that ``lua/append.lua`` answers."""
    # refused ones have a negative number
    found = (position(*pair) for pair in pairs(answer))
    return [one if one.n > 0 else Had(one.epoch, -one.n) for one in found]


def _marked(payload: msgspec.Raw | bytes) -> bytes:
    return BINARY + payload if isinstance(payload, bytes) else bytes(payload)


def bundles(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Split `items` into lists that are each kept in one step."""
    bundle: list[Item] = []
    size = 0
    for item in items:
        bundle.append(item)
        size += item.bytes
        if len(bundle) >= ITEMS or size >= ITEM_BYTES:
            yield bundle
            bundle, size = [], 0
    if bundle:
        yield bundle
