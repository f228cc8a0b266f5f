"""Verdicts: what became of a target."""

from __future__ import annotations

import pytest

from benchmarks.modes import MODES
from benchmarks.rows import ROWS, Row
from benchmarks.runs import CONTENDERS


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (15.0, "1.5 L: met"),
        (20.0, "1.5 L: missed, within 2.2 L"),
        (23.0, "2.2 L: **missed**"),
    ],
)
def test_a_figure_is_compared_with_its_target_and_its_limit(
    figure: float, said: str
) -> None:
    row = Row("echo", "key", {"frames": (1.5, 2.2)})
    assert row.verdict("frames", figure, 10.0) == said
    assert row.verdict("daphne", figure, 10.0) == ""  # it has no target
    assert row.verdict("frames", figure, None) == ""  # L was not measured


def test_memory_has_a_target_in_its_own_unit() -> None:
    row = Row("idle", "key", {"frames": (21, 26)}, base="")
    assert row.verdict("frames", 20.8, None) == "21: met"
    assert row.verdict("frames", 26.3, None) == "26: **missed**"


def test_small_rooms_are_compared_with_one_process_in_memory() -> None:
    row = Row("rooms", "key", {"two": (2.0, 2.0)}, base="memory")
    assert row.verdict("two", 199, 100) == "2 × memory: met"
    assert row.verdict("two", 201, 100) == "2 × memory: **missed**"


def test_a_rate_is_to_be_as_high_as_its_target() -> None:
    row = Row("most", "key", {"two": (3000, 2000)}, base="", is_more_better=True)
    assert row.verdict("two", 3000, None) == "3,000: met"
    assert row.verdict("two", 2500, None) == "3,000: missed, within 2,000"
    assert row.verdict("two", 1000, None) == "2,000: **missed**"


def test_redis_has_a_target_of_its_own() -> None:
    row = Row("rooms", "cpu_us_per_message", redis={"two": (28, 28)})
    assert row.redis_key == "beside_us_per_message"
    assert row.redis_verdict("two", 27) == "Redis 28 µs: met"
    assert row.redis_verdict("two", 29) == "Redis 28 µs: **missed**"
    assert row.redis_verdict("frames", 29) == ""


def test_every_load_has_rows_and_every_target_a_server_that_gets_the_load() -> None:
    assert list(ROWS) == list(MODES)
    for mode, rows in ROWS.items():
        measured = set(MODES[mode].servers)
        assert measured <= set(CONTENDERS)
        for row in rows:
            assert {*row.targets, *row.redis} <= measured
            assert not (row.targets and row.base) or row.base in measured
