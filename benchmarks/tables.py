"""The tables in the README and in docs/, made from what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from benchmarks import capacity
from benchmarks.modes import MODES, ROOMS
from benchmarks.results import Measured, Results
from benchmarks.rows import ROWS, Row
from benchmarks.runs import CONTENDERS, Figure, Found
from tests.support import servers

#: the modes of the second table, whose measure is not L but one process in memory
SMALL = (*(f"rooms{size}" for size in ROOMS), "storm", "most", "first")
LARGE = tuple(mode for mode in ROWS if mode not in SMALL)


# --------------------------------------------------------------------- a line of a table


@dataclasses.dataclass(frozen=True)
class Line:
    """One figure of the server `name`; `found` has the figures of all servers."""

    title: str
    row: Row
    name: str
    found: Mapping[str, Found]

    def figure(self, key: str, name: str | None = None) -> Figure | None:
        """Return the figure of `name`, or of this line's server; None if it was not measured."""
        return self.found.get(name or self.name, {}).get(f"{key}{self.row.at}")

    @property
    def own(self) -> Figure:
        return self.found[self.name][f"{self.row.key}{self.row.at}"]

    def median(self, key: str, name: str | None = None) -> float | None:
        figure = self.figure(key, name)
        return figure["median"] if figure else None

    def span(self) -> str:
        return f"{self.own['min']:.2f} … {self.own['max']:.2f}"

    def ratio(self, name: str) -> str:
        return ratio(self.own, self.figure(self.row.key, name))

    def beside(self, key: str, digits: int = 2) -> str:
        """Show a figure that stands beside the one of the row."""
        median = self.median(key) if key != self.row.key else None
        return "" if median is None else f"{median:.{digits}f}"

    def lost(self) -> str:
        figure = self.figure("lost")
        return f"{figure['max']:.0f}" if figure else ""

    def target(self) -> str:
        """Say whether this server reached its target, and Redis too."""
        row, base = self.row, self.median(self.row.key, self.row.base)
        server = row.verdict(self.name, self.own["median"], base)
        redis = row.redis_verdict(self.name, self.median(row.redis_key) or 0)
        return "; ".join(filter(None, (server, redis)))


def ratio(figure: Figure, baseline: Figure | None) -> str:
    if baseline is None or not baseline["median"]:
        return ""
    return f"{figure['median'] / baseline['median']:.2g}"


Columns = Mapping[str, Callable[[Line], str]]

FIRST: Columns = {
    "load": lambda line: line.title,
    "server": lambda line: CONTENDERS[line.name].title,
    "median": lambda line: f"{line.own['median']:.2f}",
    "min … max": Line.span,
}
LAST: Columns = {"target": Line.target, "lost": Line.lost}
COLUMNS: Columns = {
    **FIRST,
    "÷ L": lambda line: line.ratio("L"),
    "÷ N": lambda line: line.ratio("N"),
    "p50, ms": lambda line: line.beside("p50_ms"),
    "Phoenix: Bandit / Cowboy": lambda line: (
        line.row.phoenix if line.name == "L" else ""
    ),
    **LAST,
}
SMALL_COLUMNS: Columns = {
    **FIRST,
    "÷ memory": lambda line: line.ratio("memory"),
    "Redis, CPU µs": lambda line: line.beside(line.row.redis_key, 1),
    "p50, ms": lambda line: line.beside("p50_ms"),
    "p99, ms": lambda line: line.beside("p99_ms"),
    **LAST,
}


def lines(mode: str, measured: Measured) -> list[Line]:
    """Return the lines of one mode. A server has none at a rate that was too much for it."""
    load = MODES[mode].options("frames", measured.quick)
    return [
        Line(row.title.format_map(load), row, name, measured.found)
        for row in ROWS[mode]
        for name in CONTENDERS
        if f"{row.key}{row.at}" in measured.found.get(name, {})
    ]


def table(columns: Columns, modes: Iterable[str], results: Results) -> str:
    """Make one table of those modes that were measured."""
    made = [
        [cell(line) for cell in columns.values()]
        for mode in modes
        if mode in results
        for line in lines(mode, results[mode])
    ]
    return markdown([*columns], made, 2)


def markdown(head: list[str], rows: list[list[str]], left: int) -> str:
    made = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in made)


def everything(results: Results) -> str:
    """Make all tables that a run prints."""
    parts = [
        table(columns, modes, results)
        for columns, modes in ((COLUMNS, LARGE), (SMALL_COLUMNS, SMALL))
        if set(modes) & set(results)
    ]
    return "\n\n".join([*parts, *when(results.values())])


def when(measured: Iterable[Measured]) -> list[str]:
    """Return the circumstances of all of them, each once."""
    return [*dict.fromkeys(m.circumstances for m in measured)]


# ------------------------------------------------------------------------ the README's


def brief(results: Results) -> str:
    """Only what a reader compares."""
    head = ["", "phx_protocol", "Phoenix 1.8.12", "a consumer by hand"]
    compared = [
        row for mode in LARGE for row in _brief_rows(ROWS[mode], mode, results[mode])
    ]
    return markdown(head, compared, 1)


def _brief_rows(rows: list[Row], mode: str, measured: Measured) -> list[list[str]]:
    load = MODES[mode].options("frames", measured.quick)
    made = []
    for row in filter(lambda row: row.phoenix, rows):
        mine, other = (measured.found[n].get(row.key) for n in ("frames", "N"))
        limit = measured.found["L"][row.key] if row.base else None
        title = _in_words(row.title.format_map(load))
        made.append([title, _in_l(mine, limit), row.phoenix, _in_l(other, limit)])
    return made


def _in_words(title: str) -> str:
    # the unit is L
    title = title.replace("CPU µs per", "a").replace("CPU µs each", "each")
    return title.removesuffix(", ms")


def _in_l(figure: Figure | None, limit: Figure | None) -> str:
    if figure is None:
        return ""
    if limit is None:
        return f"{figure['median']:.0f}"
    return f"{figure['median'] / limit['median']:.2g} L"


# -------------------------------------------------------------------- into their places


@dataclasses.dataclass(frozen=True)
class Place:
    """Between which marks of which file a table stands, and the modes and servers it needs."""

    file: str
    mark: str
    text: Callable[[Results], str]
    needs: Mapping[str, tuple[str, ...]]
    is_dated: bool = True

    def lacks(self, results: Results) -> list[str]:
        """Return the modes of which not all was measured."""
        return [
            mode
            for mode, names in self.needs.items()
            if mode not in results or not set(names) <= set(results[mode].found)
        ]

    def write(self, results: Results) -> None:
        parts = [self.text(results)]
        if self.is_dated:
            parts += when(results[mode] for mode in self.needs)
        write(self.file, "\n\n".join(parts), self.mark)


def _all(modes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {mode: MODES[mode].servers for mode in modes}


def _capacity(
    mark: str, text: Callable[[capacity.Costs], list[list[str]]], dated: bool
) -> Place:
    def made(results: Results) -> str:
        head, *rows = text(capacity.Costs.of({m: results[m].found for m in results}))
        return markdown(head, rows, 1)

    return Place("docs/capacity.md", mark, made, capacity.NEEDS, dated)


PLACES = [
    Place(
        "docs/performance.md",
        "bench",
        lambda results: table(COLUMNS, LARGE, results),
        _all(LARGE),
    ),
    Place(
        "docs/performance.md",
        "rooms",
        lambda results: table(SMALL_COLUMNS, SMALL, results),
        _all(SMALL),
    ),
    Place("README.md", "bench", brief, _all(LARGE)),
    _capacity("bench", capacity.parts, True),
    _capacity("messages", capacity.messages, False),
    _capacity("rooms", capacity.rooms, False),
    _capacity("loads", capacity.loads, False),
]


def write_all(results: Results) -> list[str]:
    """Write every table of which all was measured; return why the others stay as they are."""
    kept = []
    for place in PLACES:
        if lacking := place.lacks(results):
            what = ", ".join(lacking)
            kept.append(f"{place.file}, {place.mark}: not all measured of {what}")
        else:
            place.write(results)
    return kept


def write(name: str, text: str, mark: str = "bench") -> None:
    """Put `text` between the marks of a file."""
    path = servers.ROOT / name
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, opened, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{name} has no place {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
