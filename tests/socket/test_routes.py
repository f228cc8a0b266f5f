"""Which channel answers a topic, and what is known of a topic by that."""

from __future__ import annotations

import gc

from phx_protocol.pubsub.serving import mount_socket
from phx_protocol.socket.routes import _known_routes, channels_of, history_of
from tests.pubsub.rooms import Room, RoomSocket


def test_channels_of_a_topic_are_found_by_patterns_and_not_cached() -> None:
    mount_socket(RoomSocket)
    assert channels_of("kept:1") == (Room,)
    assert history_of("kept:1") is Room.history
    assert history_of("other") is None
    for i in range(1000):
        topic = f"kept:{i}{'x' * 1000}"
        assert history_of(topic) is Room.history
        assert channels_of(f"{topic}!") == (Room,)
    gc.collect()
    texts = [o for o in gc.get_objects() if isinstance(o, tuple)]
    assert not [t for t in texts if any(type(o) is str and "xxxxxx!" in o for o in t)]
    assert _known_routes.cache_info().currsize <= 8
