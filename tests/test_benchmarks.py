"""The verdicts and tables of the benchmark, and the calculation of a site's needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench
from benchmarks.capacity import BUSY, CLIENTS, PARTS, Costs, Load, need
from benchmarks.curves import Chart, Series, table
from benchmarks.rows import Row

COSTS = Costs(
    delivery=10,
    push=50,
    join=800,
    heartbeat=40,
    kib=20,
    publish=200,
    receive=100,
    redis_publish=20,
    redis_receive=5,
)


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
    row = Row("idle", "key", {"frames": (21, 26)}, is_absolute=True)
    assert row.verdict("frames", 20.8, 1.4) == "21: met"
    assert row.verdict("frames", 26.3, None) == "26: **missed**"


def found(delivery: float, beside: float = 0) -> dict[str, dict[str, float]]:
    keys = {"delivery": delivery, "reply": 50, "join": 800, "heartbeat": 40}
    figures = {f"cpu_us_per_{key}": {"median": value} for key, value in keys.items()}
    figures["beside_us_per_delivery"] = {"median": beside}
    figures["rss_kib_per_socket"] = {"median": 20}
    return figures


def test_the_parts_follow_from_one_process_and_two() -> None:
    one, two = found(40, beside=2.5), found(50, beside=3.0)
    whole: Any = {
        **{mode: {"frames": found(10)} for mode in ("paced", "echo", "join", "idle")},
        "relay": {"frames": one, "two": two},  # to ten sockets
    }
    assert Costs.of(whole) == COSTS
    assert set(PARTS) == set(COSTS.__dataclass_fields__)


def test_a_load_that_fits_one_process_needs_one() -> None:
    assert need(Load("quiet", 1000, 1, 1), COSTS).processes == 1
    assert need(Load("many", CLIENTS + 1, 1, 1), COSTS).processes == 2


def test_a_busy_site_has_the_fewest_processes_of_which_none_has_too_much() -> None:
    load = Load("chat", 10_000, 50, 5000)
    needed = need(load, COSTS)

    def cores(processes: int) -> float:
        message = 50 + 200 + min(processes, 50) * 100 + 50 * 10
        return (5000 * message + 10_000 / 30 * 40) / 1e6

    assert cores(needed.processes) <= BUSY * needed.processes
    assert cores(needed.processes - 1) > BUSY * (needed.processes - 1)
    assert needed.redis_cores == pytest.approx(
        5000 * (20 + min(needed.processes, 50) * 5) / 1e6
    )
    assert needed.gib > 10_000 * 20 / 1024**2


def test_text_is_written_between_its_marks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.servers, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two --><!-- /two -->\nc\n"
    )
    bench.write("page.md", "new", "one")
    bench.write("page.md", "more", "two")
    assert page.read_text() == (
        "a\n<!-- one -->\nnew\n<!-- /one -->\nb\n<!-- two -->\nmore\n<!-- /two -->\nc\n"
    )


def test_the_table_of_a_curve_has_its_points_and_leaves_out_those_that_say_nothing() -> (
    None
):
    chart = Chart("joins", "Joins", "key", "µs", fewest=100)
    series = Series("topics", "topics", (1, 100), ("L",), {}, (chart,))
    measured: Any = {"L": {1: {"key": {"median": 99.0}}, 100: {"key": {"median": 2.0}}}}
    assert table(chart, series, measured) == [
        ["µs, topics:", "100"],
        ["L: bare uvloop", "2.0"],
    ]
