"""The fenced blocks of the README and of the documentation."""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from tests.support.servers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: page -> language ("" for all) -> the test that follows it to the letter
ELSEWHERE = {
    "tutorial.md": {"": "browser/test_tutorial.py"},
    "react.md": {"tsx": "browser/test_react.py"},
    "typed.md": {"ts": "schema/test_typescript.py"},
    "scaling.md": {"text": "integration/test_affinity.py"},  # HAProxy's
}
#: a fence, and above it, maybe, why nobody can check what is in it
FENCED = re.compile(
    r"^(?:<!-- unchecked: (?P<why>.+?) -->\n)?"
    r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)(?P=fence) *$",
    re.M | re.S,
)


class Block(NamedTuple):
    page: str
    #: of the first line of the code on the page
    line: int
    language: str
    code: str
    #: why it is not checked
    why: str | None

    @property
    def name(self) -> str:
        """A name for a module made of it."""
        return f"{self.page.removesuffix('.md').lower().replace('-', '_')}_{self.line}"

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def all_blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCED.finditer(text):
            line = text.count("\n", 0, match.start("code")) + 1
            code = textwrap.dedent(match["code"])
            found.append(
                Block(page.name, line, match["language"].strip(), code, match["why"])
            )
    return found


BLOCKS = all_blocks()


def is_elsewhere(block: Block) -> bool:
    return not {"", block.language}.isdisjoint(ELSEWHERE.get(block.page, {}))


def of(*languages: str) -> list[Block]:
    """Return the blocks of these languages that are checked here."""
    wanted = [b for b in BLOCKS if b.language in languages and b.why is None]
    return [block for block in wanted if not is_elsewhere(block)]
