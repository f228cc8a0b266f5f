from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phx_protocol.wire.messages import Message
from phx_protocol.wire.protocol import Action, channel_join_ref, classify, same_ref

# (joined with this join_ref or None for not joined, topic, event, join_ref sent) -> action
TABLE = [
    (None, "phoenix", "heartbeat", None, Action.HEARTBEAT),
    ("1", "phoenix", "heartbeat", "7", Action.HEARTBEAT),
    (None, "room:1", "phx_join", "1", Action.JOIN),
    ("1", "room:1", "phx_join", "2", Action.REJOIN),
    ("1", "room:1", "phx_join", "1", Action.REJOIN),
    ("1", "room:1", "phx_leave", "1", Action.LEAVE),
    ("1", "room:1", "phx_leave", None, Action.LEAVE),
    (None, "room:1", "phx_leave", "1", Action.LEFT),
    (None, "phoenix", "phx_leave", "1", Action.LEFT),
    ("1", "room:1", "new_msg", "1", Action.DELIVER),
    ("1", "room:1", "new_msg", None, Action.DELIVER),
    ("1", "room:1", "new_msg", "2", Action.STALE),
    ("1", "room:1", "new_msg", "", Action.STALE),
    ("1", "room:1", "new_msg", 1, Action.STALE),
    ("1", "room:1", "phx_leave", "2", Action.STALE),
    (None, "room:1", "new_msg", "1", Action.UNMATCHED),
    (None, "room:1", "heartbeat", None, Action.UNMATCHED),
    (None, "phoenix", "ping", None, Action.UNMATCHED),
    (None, None, None, None, Action.UNMATCHED),
]


@pytest.mark.parametrize("joined, topic, event, join_ref, action", TABLE)
def test_the_table_of_actions(
    joined: str | None, topic: Any, event: Any, join_ref: Any, action: Action
) -> None:
    message = Message(join_ref, "9", topic, event, {})
    assert classify(message, joined is not None, joined) is action


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(JSON, JSON, JSON, JSON, st.booleans(), JSON)
def test_whatever_a_client_sends_has_an_action(
    join_ref: Any, topic: Any, event: Any, payload: Any, joined: bool, own: Any
) -> None:
    action = classify(Message(join_ref, "1", topic, event, payload), joined, own)
    assert joined or action not in (
        Action.DELIVER,
        Action.LEAVE,
        Action.STALE,
        Action.REJOIN,
    )


@pytest.mark.parametrize(
    "one, other", [(1, 1.0), (1, "1"), (1, True), ("", None), ([1], [1.0])]
)
def test_refs_of_different_json_differ(one: Any, other: Any) -> None:
    assert not same_ref(one, other)


@given(JSON.filter(lambda ref: ref is not None))
def test_a_ref_is_the_same_as_itself(ref: Any) -> None:
    assert same_ref(ref, ref)


def test_a_channel_joined_without_join_ref_has_the_ref_of_its_join() -> None:
    assert channel_join_ref(Message(None, "4", "t", "phx_join", {})) == "4"
    assert channel_join_ref(Message(False, "4", "t", "phx_join", {})) == "4"
    assert channel_join_ref(Message(0, "4", "t", "phx_join", {})) == 0
