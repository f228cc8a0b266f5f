"""What a message costs here, next to the limit and to what one would write by hand.

python -m benchmarks.bench [--quick] [--only MODE] [--servers L,N,frames,...] [--results FILE]
    [--write | --tables | --curves]

Prints markdown tables; benchmarks/README.md says how to read them. `--results` keeps the figures
in a file: modes that it has are not measured again, unless `--only` names them. `--write` puts every
table of which all was measured between its marks in docs/performance.md, docs/capacity.md and
README.md; without `--only` the curves too. `--tables` only does so, and measures nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import curves, results, tables
from benchmarks.modes import MODES
from benchmarks.phxload import raise_fd_limit
from benchmarks.results import Measured, Results, circumstances
from benchmarks.runs import CONTENDERS, Found, drive, together
from benchmarks.tables import markdown, write
from tests.support import servers

#: times that all servers are measured in turn: what else the machine does hits them alike
PASSES = 3


def wanted(mode: str, names: list[str]) -> list[str]:
    return [name for name in names if name in MODES[mode].servers]


def measure(
    mode: str, names: list[str], quick: bool, redis: servers.Server
) -> Measured:
    """Give each server the load in turn, and return what it needed."""
    load = MODES[mode]
    passes: dict[str, list[Found]] = {name: [] for name in wanted(mode, names)}
    for number in range(1 if quick else PASSES):
        for name, found in passes.items():
            print(f"{mode} {number + 1}: {CONTENDERS[name].title}", file=sys.stderr)
            options = load.options(name, quick)
            found.append(drive(load.driver, name, options, redis, load.redis_ms))
    medians = {name: together(found) for name, found in passes.items()}
    return Measured(medians, circumstances(quick), quick)


def write_curves(redis: servers.Server) -> None:
    """The curves, measured, drawn, and as tables."""
    parts = []
    for series in curves.SERIES:
        found = curves.measure(series, redis)
        for chart in series.charts:
            path = curves.draw(chart, series, found)
            picture = f"![{chart.title}]({path.relative_to(path.parent.parent)})"
            head, *rows = curves.table(chart, series, found)
            parts.append(f"{picture}\n\n{markdown(head, rows, 1)}")
    write("docs/performance.md", "\n\n".join([*parts, circumstances(False)]), "curves")


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("--quick", action="store_true", help="less of everything")
    add("--only", choices=MODES, action="append", metavar="MODE", help=", ".join(MODES))
    add("--servers", default=",".join(CONTENDERS), help="default: %(default)s")
    add("--results", type=Path, metavar="FILE", help="keep the figures there")
    add("--write", action="store_true", help="into the README and the docs")
    add("--tables", action="store_true", help="only write the tables, from --results")
    add("--curves", action="store_true", help="only the curves, into the docs")
    o = p.parse_args()
    o.servers = o.servers.split(",")
    if not set(o.servers) <= set(CONTENDERS):
        p.error(f"the servers are {', '.join(CONTENDERS)}")
    if o.tables and not o.results:
        p.error("--tables needs --results")
    return o


@contextlib.contextmanager
def fresh_redis() -> Iterator[servers.Server]:
    with tempfile.TemporaryDirectory() as directory:
        with servers.redis(Path(directory)) as redis:
            yield redis


def measure_all(o: argparse.Namespace, redis: servers.Server) -> Results:
    """Return what --results has; measure what it lacks, or what --only names."""
    found = results.load(o.results)
    for mode in o.only or [mode for mode in MODES if mode not in found]:
        found[mode] = measure(mode, o.servers, o.quick, redis)
        if o.results:
            results.save(o.results, found)
    return found


def write_tables(found: Results) -> None:
    for kept in tables.write_all(found):
        print(kept, file=sys.stderr)


def run(o: argparse.Namespace, redis: servers.Server) -> None:
    if not o.curves:
        found = measure_all(o, redis)
        print(tables.everything(found))
        if o.write:
            write_tables(found)
    if o.curves or (o.write and not o.only):
        write_curves(redis)


def main() -> None:
    o = parse()
    if o.tables:
        return write_tables(results.load(o.results))
    raise_fd_limit(25_000)
    with fresh_redis() as redis:
        run(o, redis)


if __name__ == "__main__":
    main()
