"""The curves' tables."""

from __future__ import annotations

from typing import Any

from benchmarks.curves import Chart, Series, table


def test_a_table_has_its_points_and_leaves_out_those_that_say_nothing() -> None:
    chart = Chart("joins", "Joins", "key", "µs", fewest=100)
    series = Series("topics", "topics", (1, 100), ("L",), {}, (chart,))
    measured: Any = {"L": {1: {"key": {"median": 99.0}}, 100: {"key": {"median": 2.0}}}}
    assert table(chart, series, measured) == [
        ["µs, topics:", "100"],
        ["L: bare uvloop", "2.0"],
    ]
