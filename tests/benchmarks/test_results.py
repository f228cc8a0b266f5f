"""What was measured, on file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench, results
from benchmarks.modes import MODES
from benchmarks.results import Measured

ECHO = Measured({"L": {"key": {"median": 1.5}}}, "today", quick=True)


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.load(path) == results.load(None) == {}
    results.save(path, {"echo": ECHO})
    assert results.load(path) == {"echo": ECHO}


def test_a_quick_run_says_so_in_its_circumstances() -> None:
    assert "provisional" in results.circumstances(quick=True)
    assert "provisional" not in results.circumstances(quick=False)


@pytest.mark.parametrize(
    ("only", "measured"),
    [(None, [mode for mode in MODES if mode != "echo"]), (["echo"], ["echo"])],
)
def test_a_run_measures_what_its_file_lacks_or_what_it_is_told(
    only: list[str] | None,
    measured: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, asked = tmp_path / "results.json", []

    def measure(mode: str, *_: Any) -> Measured:
        asked.append(mode)
        return Measured({}, "now")

    results.save(path, {"echo": ECHO})
    monkeypatch.setattr(bench, "measure", measure)
    o = argparse.Namespace(results=path, only=only, servers=[], quick=False)
    redis: Any = None
    assert bench.measure_all(o, redis) == results.load(path)
    assert asked == measured
