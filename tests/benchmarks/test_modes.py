"""The options of a load."""

from __future__ import annotations

from benchmarks.modes import MODES, Mode


def test_a_quick_run_and_the_slow_server_get_less_of_a_load() -> None:
    mode = Mode(("x",), {"rate": 10, "count": 50}, {"count": 5}, fewer={"rate": 1})
    assert mode.options("L", quick=False) == {"rounds": 1, "rate": 10, "count": 50}
    assert mode.options("L", quick=True) == {"rounds": 3, "rate": 10, "count": 5}
    assert mode.options("N", quick=True) == {"rounds": 3, "rate": 1, "count": 5}


def test_all_sizes_of_rooms_have_as_many_sockets() -> None:
    loads = [MODES[f"rooms{size}"].load for size in (2, 5, 50)]
    assert {load["size"] * load["rooms"] for load in loads} == {1000}
