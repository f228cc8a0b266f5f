"""The tables of a page."""

from __future__ import annotations

import re

from tests.support.servers import ROOT


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables under the heading of the second level that begins so."""
    sections = re.split(r"^## ", (ROOT / "docs" / page).read_text(), flags=re.M)
    (section,) = [s for s in sections if s.startswith(heading)]
    lines = re.findall(r"^\| (.*) \|$", section, flags=re.M)
    return [re.split(r"\s*\|\s*", line.strip()) for line in lines[1:]]


def table(title: str, text: str) -> set[str]:
    """The first column of the table under a heading, in the text of a page."""
    (section,) = [s for s in re.split(r"^## ", text, flags=re.M) if s.startswith(title)]
    cells = re.findall(r"^\| (.+?) \|", section, flags=re.M)
    return {cell.strip("`") for cell in cells[1:]}


def names(text: str) -> list[str]:
    """Return the texts in backticks of a cell."""
    return re.findall(r"`([^`]*)`", text)
