"""Broadcasts that come over the layer, from any sender."""

from __future__ import annotations

from typing import Any

import pytest
from channels.layers import get_channel_layer

from phx_protocol.pubsub import group_name
from tests.api.rooms import assert_hears_foreign_code, room

__all__ = ["room"]


async def test_foreign_code_reaches_clients_through_the_layer(room: Any) -> None:
    await assert_hears_foreign_code(room)


async def test_a_bad_message_on_the_layer_is_one_line_in_the_log(
    room: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer = get_channel_layer()
    await layer.group_send(group_name("room:1"), {"type": "phx.broadcast", "v": 9})
    await layer.group_send(group_name("room:1"), {"type": "else"})
    await assert_hears_foreign_code(room)
    assert [record.exc_info for record in caplog.records] == [None, None]
