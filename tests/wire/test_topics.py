from __future__ import annotations

from typing import Any

import pytest

from phx_protocol.exceptions import InvalidTopicPattern
from phx_protocol.wire.topics import TopicPatterns, check_pattern


def test_the_first_pattern_that_matches_wins() -> None:
    patterns = TopicPatterns([("room:lobby", 1), ("room:*", 2), ("*", 3)])
    assert patterns.match("room:lobby") == (1, "")
    assert patterns.match("room:1:a") == (2, "1:a")
    assert patterns.match("room:") == (2, "")
    assert patterns.match("room") == (3, "room")
    assert TopicPatterns([("exact", 1)]).match("exactly") is None


@pytest.mark.parametrize("pattern", ["", "a*b", "*:room", None, 5])
def test_a_pattern_that_could_not_match_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidTopicPattern):
        check_pattern(pattern)
