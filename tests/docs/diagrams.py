"""``make diagrams``: the SVG of every diagram, made of its source by graphviz.

Both are in the repository, since GitHub draws no ``.dot``; a digest says that they belong together.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from tests.support.servers import ROOT

DIAGRAMS = ROOT / "docs/diagrams"


def digest(source: Path) -> str:
    return f"<!-- {source.name}: {hashlib.sha256(source.read_bytes()).hexdigest()} -->"


def draw(source: Path) -> str:
    dot = ["dot", "-Tsvg", str(source)]
    drawn = subprocess.run(dot, check=True, capture_output=True, text=True).stdout
    svg = re.sub(r"<!-- .*? -->\n?", "", drawn[drawn.index("<svg") :], flags=re.S)
    return f"{digest(source)}\n{svg}"


if __name__ == "__main__":
    for source in sorted(DIAGRAMS.glob("*.dot")):
        source.with_suffix(".svg").write_text(draw(source))
