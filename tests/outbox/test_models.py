"""The rows as the admin sees them."""

from __future__ import annotations

import time

from phx_protocol.outbox.models import Message, Partition, Relay


def test_a_row_shows_its_payload_and_its_age() -> None:
    row = Message(topic="room:1", event="said", payload=b'{"a": 1}')
    row.written_at = time.time() - 5
    assert row.content == {"a": 1} and 5 <= row.age < 60
    assert str(row) == "room:1 said"


def test_binary_payloads_stay_bytes_and_clocks_may_differ() -> None:
    row = Message(payload=memoryview(b"\xff"), is_binary=True)
    row.written_at = time.time() + 100
    assert row.content == b"\xff" and row.age == 0.0


def test_partitions_and_relays_have_names() -> None:
    assert str(Partition(number=3)) == "3"
    assert str(Relay(host="web1", pid=7)) == "web1, pid 7"
