"""Partitions: their tags, and what waits in them."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from phx_protocol.layers.partition import Message, Partition
from phx_protocol.layers.slots import TAGS, index_of


def message(n: int) -> Message:
    return Message(b"channel", b"%d" % n, lambda answer: None, None)


@pytest.mark.parametrize("servers", range(1, 33))
def test_each_server_of_a_cluster_has_its_share_of_the_partitions(servers: int) -> None:
    slots = [Partition(tag).slot for tag in TAGS]
    counts = [0] * servers
    for slot in slots:
        counts[slot * servers // 16384] += 1
    assert max(counts) - min(counts) <= 1
    assert len({*slots}) == len(TAGS) == 64


def test_the_names_of_a_partition_have_its_slot_whatever_is_in_them() -> None:
    for tag in TAGS:
        place = Partition(tag)
        for name in (b"", b"asgi__group__room:1", b"{user}{", b"}{}"):
            assert key_slot(place.prefix + name) == place.slot


def test_names_are_spread_evenly() -> None:
    found = [index_of(b"asgi__group__room:%d" % n, 64) for n in range(64_000)]
    assert all(850 < found.count(n) < 1150 for n in range(64))


def test_what_was_refused_comes_before_what_was_held() -> None:
    place = Partition(TAGS[0])
    assert not place.waits
    place.held += message(3), message(4)
    place.refused += message(1), message(2)
    assert place.waits
    assert [m.data for m in place.take_waiting()] == [b"1", b"2", b"3", b"4"]
    assert not place.waits


def test_a_partition_is_whole_when_all_that_is_wanted_is_where_it_should_be() -> None:
    place = Partition(TAGS[0])
    assert place.is_whole
    place.names.add(b"a")
    assert not place.is_whole

    class Primary:
        class subscriptions:  # noqa: N801
            active: set[bytes] = set()

            @classmethod
            def are_active(cls, names: Any) -> bool:
                return cls.active.issuperset(names)

    place.primary = Primary  # type: ignore[assignment]
    assert not place.is_whole
    Primary.subscriptions.active.add(b"a")
    assert place.is_whole
    place.has_lost = True
    assert not place.is_whole
    place.has_lost = False
    place.refused.append(message(1))
    assert not place.is_whole
