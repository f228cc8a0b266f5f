"""The tables: their lines, and where they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.modes import MODES
from benchmarks.results import Measured, Results
from benchmarks.rows import ROWS
from benchmarks.runs import Found
from benchmarks.tables import SMALL_COLUMNS, Place, table


def found(**figures: float) -> Found:
    return {key: {"min": v, "median": v, "max": v} for key, v in figures.items()}


def at(rate: int, cpu: float, redis: float) -> dict[str, float]:
    figures = {
        "cpu_us_per_message": cpu,
        "beside_us_per_message": redis,
        "p50_ms": 0.25,
        "p99_ms": 1.5,
        "lost": 0,
    }
    return {f"{key}_{rate}": value for key, value in figures.items()}


ROOMS = {
    "memory": found(**at(500, 100, 0), **at(2000, 80, 0)),
    "two": found(**at(500, 240, 30), **at(2000, 200, 28)),
    "pubsub2": found(**at(500, 500, 45)),  # more was too much for it
}


def cells(text: str) -> list[list[str]]:
    lines = text.splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_small_room_shows_cost_redis_latency_and_what_became_of_the_targets() -> None:
    results = {"rooms5": Measured(ROOMS, "today")}
    head, _, *rows = cells(table(SMALL_COLUMNS, ["rooms5"], results))
    two = next(
        dict(zip(head, row, strict=True))
        for row in rows
        if "2,000" in row[0] and "2 ×" in row[1]
    )
    assert two == {
        "load": "rooms of 5, 2,000 messages a second: CPU µs per message",
        "server": "phx_protocol, 2 × uvicorn --ws",
        "median": "200.00",
        "min … max": "200.00 … 200.00",
        "÷ memory": "2.5",
        "Redis, CPU µs": "28.0",
        "p50, ms": "0.25",
        "p99, ms": "1.50",
        "target": "2 × memory: **missed**; Redis 28 µs: met",
        "lost": "0",
    }


def test_a_server_has_no_line_at_a_rate_that_was_too_much_for_it() -> None:
    rows = cells(table(SMALL_COLUMNS, ["rooms5"], {"rooms5": Measured(ROOMS, "")}))
    rates = [row[0].split()[3] for row in rows if "RedisPubSub" in row[1]]
    assert rates == ["500"]


PAGE = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two --><!-- /two -->\nc\n"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables.servers, "ROOT", tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_text_is_written_between_its_marks_only(page: Path) -> None:
    tables.write("page.md", "new", "one")
    tables.write("page.md", "more", "two")
    assert page.read_text() == (
        "a\n<!-- one -->\nnew\n<!-- /one -->\nb\n<!-- two -->\nmore\n<!-- /two -->\nc\n"
    )


def test_a_table_is_written_once_all_its_servers_are_measured(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place("page.md", "one", lambda _: "new", {"echo": ("L", "N")})
    monkeypatch.setattr(tables, "PLACES", [place])
    one: Any = {"echo": Measured({"L": {}}, "today")}
    assert tables.write_all(one) == ["page.md, one: not all measured of echo"]
    assert page.read_text() == PAGE
    both: Any = {"echo": Measured({"L": {}, "N": {}}, "today")}
    assert tables.write_all(both) == []
    assert "new\n\ntoday\n" in page.read_text()


def whole() -> Results:
    """All modes, as if each figure was 1."""
    return {
        mode: Measured(
            {
                name: {
                    key: figure
                    for row in rows
                    for key, figure in found(
                        **{
                            f"{key}{row.at}": 1.0
                            for key in (row.key, row.redis_key, "lost", "p50_ms")
                        }
                    ).items()
                }
                for name in MODES[mode].servers
            },
            "today",
        )
        for mode, rows in ROWS.items()
    }


def test_a_whole_run_fills_every_table_of_the_readme_and_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {place.file: tmp_path / place.file for place in tables.PLACES}
    for file, path in pages.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text((tables.servers.ROOT / file).read_text())
    monkeypatch.setattr(tables.servers, "ROOT", tmp_path)
    assert tables.write_all(whole()) == []
    for place in tables.PLACES:
        begin = f"<!-- {place.mark} -->\n|"
        assert pages[place.file].read_text().count(begin) == 1, place
