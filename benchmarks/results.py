"""The figures of a run, with when and where: in memory, and in a file that a later run adds to."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

from benchmarks.runs import Found

PACKAGES = ("django", "channels", "uvicorn", "uvloop", "websockets", "daphne")


@dataclasses.dataclass(frozen=True)
class Measured:
    """The figures of one mode: server -> what it needed. A quick run measures less of everything."""

    found: dict[str, Found]
    circumstances: str
    quick: bool = False


#: mode -> what was measured of it
Results = dict[str, Measured]


def circumstances(quick: bool) -> str:
    """Say when, where and with what versions this run measures."""
    with open("/proc/cpuinfo") as cpuinfo:
        names = re.findall(r"model name\s*: (.+)", cpuinfo.read())
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    return (
        f"{datetime.date.today():%Y-%m-%d}, {os.cpu_count()} cores of "
        f"{names[0] if names else platform.machine()}, "
        f"Python {platform.python_version()}, {versions}."
        f"{' A quick run: provisional.' if quick else ''}"
    )


def load(path: Path | None) -> Results:
    """Read the results from a file; none if there is no such file."""
    if path is None or not path.exists():
        return {}
    kept = json.loads(path.read_text())
    return {mode: Measured(**fields) for mode, fields in kept.items()}


def save(path: Path, results: Results) -> None:
    kept = {mode: dataclasses.asdict(measured) for mode, measured in results.items()}
    path.write_text(json.dumps(kept, indent=1))
