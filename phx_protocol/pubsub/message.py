"""The message on the channel layer: a public interface, version 1.

::

    {"type": "phx.broadcast", "v": 1, "node": <node name or None>,
     "items": [{"topic": str, "event": str, "payload": <JSON text | bytes | dict>,
                "from": <channel id or None>, "offset": <str or None>,
                "at": <seconds of the epoch or None>, "committed": <the same>,
                "headers": <dict of str, or None>}]}

Any code may ``group_send`` it to ``group_name(topic)`` and so reach Phoenix clients. A payload
of type ``str`` is encoded JSON (msgpack refuses datetimes, and integer keys in it break the
receiver); one of type ``bytes`` is binary.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from hashlib import blake2s
from typing import Any, NamedTuple

import msgspec

from ..conf import options
from ..exceptions import EncodeError
from ..logs.printable import shown
from ..state import Position
from ..wire import json
from ..wire.messages import Broadcast

VERSION = 1
BROADCAST = "phx.broadcast"
REPLY = "phx.reply"
RELAY = "phx.relay"


class Internal(NamedTuple):
    """The key of a group that belongs to no topic: no text that a client sends is equal to it."""

    name: str


#: the group of all nodes with connections
NODES = Internal("nodes")


@functools.lru_cache(maxsize=1024)
def group_name(topic: str) -> str:
    """Return the layer's group for `topic`: readable, and unique because of its hash.

    It always has the hash: ``room:1`` and ``room.1`` must never share a group.
    """
    # The key of a group of nodes. Its name has no hash, so that it differs from that of any topic.
    if isinstance(topic, Internal):
        return f"phx.{topic.name}"
    readable = re.sub(r"[^a-zA-Z0-9_-]+", ".", topic[:40])
    return f"phx.{readable}.{blake2s(topic.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def size_of(broadcast: Broadcast) -> int:
    """Return the bytes of its payload, topic and event. Raises EncodeError for lone surrogates."""
    topic, event = broadcast.topic, broadcast.event
    try:
        if topic.isascii() and event.isascii():  # the usual case
            return len(topic) + len(event) + len(memoryview(broadcast.payload))
        text = len(topic.encode()) + len(event.encode())
    except (AttributeError, UnicodeError) as error:
        raise EncodeError(f"the topic or event is no text: {error}") from error
    return text + len(memoryview(broadcast.payload))


def require_size(broadcast: Broadcast) -> None:
    """Raise EncodeError if `broadcast` is larger than MAX_BROADCAST_SIZE."""
    limit, whole = options().max_broadcast_size, size_of(broadcast)
    if whole > limit:
        raise EncodeError(
            f"the broadcast {broadcast.event!r:.100} has {whole} bytes, MAX_BROADCAST_SIZE is {limit}"
        )


def pack_item(broadcast: Broadcast) -> dict[str, Any]:
    """Make an item of a message. Raises EncodeError for a payload that is not UTF-8."""
    payload = broadcast.payload
    try:
        packed = payload if isinstance(payload, bytes) else bytes(payload).decode()
    except UnicodeError as error:
        raise EncodeError(f"the payload is not UTF-8: {error}") from error
    item = {
        "topic": broadcast.topic,
        "event": broadcast.event,
        "payload": packed,
        "from": broadcast.sender,
        "offset": broadcast.offset,
        "at": broadcast.sent_at,
        "headers": broadcast.headers,
    }
    if broadcast.committed_at is not None:
        item["committed"] = broadcast.committed_at
    return item


def pack(items: list[dict[str, Any]], node: str | None) -> dict[str, Any]:
    return {"type": BROADCAST, "v": VERSION, "node": node, "items": items}


class Unreadable(Exception):
    """A message on the layer that this version does not understand."""


def unpack(message: dict[str, Any]) -> Iterator[Broadcast]:
    """Yield the broadcasts in `message`. Raises Unreadable."""
    if message.get("v") != VERSION or not set(message) <= {
        "type",
        "v",
        "node",
        "items",
    }:
        raise Unreadable(
            f"version {shown(message.get('v'), 100)} with the keys {shown(list(message))}"
        )
    for item in message.get("items", ()):
        try:
            topic, event, payload = item["topic"], item["event"], item["payload"]
            if isinstance(payload, str):
                if message.get("node") is None:
                    json.decode(payload)  # check it: it was not encoded by this package
                raw: msgspec.Raw | bytes = msgspec.Raw(payload.encode())
            else:
                raw = json.encode_payload(payload)
        except (LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"the item {shown(item, 200)}: {shown(error)}") from error
        if not isinstance(topic, str) or not isinstance(event, str):
            raise Unreadable(
                f"topic and event must be strings, not {shown(topic, 100)} and {shown(event, 100)}"
            )
        offset = item.get("offset")
        if offset is not None and Position.parse(offset) is None:
            raise Unreadable(f"the offset {shown(offset, 100)}")
        at, headers = _time(item, "at"), _headers(item)
        committed_at = _time(item, "committed")
        sender = item.get("from")
        yield Broadcast(topic, event, raw, offset, at, headers, sender, committed_at)


def _time(item: dict[str, Any], name: str) -> float | None:
    """Return when the broadcast was sent, or its change committed. Raises Unreadable."""
    at: float | None = item.get(name)
    if at is not None and not isinstance(at, (int, float)):
        raise Unreadable(f"{name} is a number, not {shown(at, 100)}")
    return at


def _headers(item: dict[str, Any]) -> dict[str, str] | None:
    """Return the headers of the broadcast. Raises Unreadable."""
    headers: dict[str, str] | None = item.get("headers")
    is_text = isinstance(headers, dict) and all(
        isinstance(text, str) for pair in headers.items() for text in pair
    )
    if headers is not None and not is_text:
        raise Unreadable(f"headers are a dict of str, not {shown(headers, 100)}")
    return headers
