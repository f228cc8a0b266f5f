"""What the checks find of who is tracked."""

from __future__ import annotations

from typing import Any

import pytest

from phx_protocol import signals
from tests.checks.found import found_in


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({"TRACK_USERS": True, "TRACK_TOPICS": ["room:*", "lobby"]}, set()),
        ({"TRACK_TOPICS": ["room:*:1"]}, {"E019"}),
        ({"TRACK_TOPICS": ["room:*", ""]}, {"E019"}),
        ({"TRACK_TOPICS": "room:*"}, {"E003"}),
        ({"TRACK_USERS": 1}, {"E003"}),
        ({"OFFLINE_AFTER": 0}, {"E003"}),
        ({"OFFLINE_AFTER": float("inf")}, {"E019"}),
    ],
)
def test_what_cannot_be_tracked_is_found(
    settings: dict[str, Any], ids: set[str]
) -> None:
    assert found_in(settings, {}) == ids


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("user_online", {"TRACK_USERS": True}),
        ("user_offline", {"TRACK_USERS": True}),
        ("topic_occupied", {"TRACK_TOPICS": ["room:*"]}),
        ("topic_vacated", {"TRACK_TOPICS": ["room:*"]}),
    ],
)
def test_a_receiver_of_what_is_not_tracked_is_found(
    name: str, setting: dict[str, Any]
) -> None:
    def receive(sender: Any, **named: Any) -> None: ...

    signal = getattr(signals, name)
    assert found_in({}, {}) == set()
    signal.connect(receive)
    try:
        assert found_in({}, {}) == {"W009"}
        assert found_in(setting, {}) == set()
    finally:
        signal.disconnect(receive)
