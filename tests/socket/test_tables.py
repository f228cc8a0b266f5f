"""The tables of a Channel class, and the mistakes that raise an error when it is made."""

from __future__ import annotations

import pytest

from tests.history.rooms import Room


def test_a_wrong_history_or_presence_raises_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="history is a History or None"):
        type("Wrong", (Room,), {"history": 100})
    with pytest.raises(TypeError, match="presence is a Presence class or None"):
        type("Wrong", (Room,), {"presence": "chat.RoomPresence"})
