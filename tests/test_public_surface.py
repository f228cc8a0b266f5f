"""The public names and signatures change only on purpose."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import pytest

from tests.public_surface import Module, surface

PINNED = Path(__file__).with_name("public_surface.txt")
HOW = """The public surface has changed. If it is meant to, write it again,

    python -m tests.public_surface > tests/public_surface.txt

and tell users in CHANGELOG.md:
"""


def test_the_public_surface_is_the_one_that_was_written_down() -> None:
    pinned = PINNED.read_text().splitlines()
    changes = difflib.unified_diff(pinned, surface(), n=0, lineterm="")
    changed = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
    assert not changed, "\n".join([HOW, *changed])


SOURCE = '''
#: how many
SIZE = 1
LIMIT = 2

def call(a: int, *, b: str = "b") -> None:
    """It is documented."""

def helper() -> None: ...

async def _private() -> None:
    """It is documented."""

class Thing(Base):
    """It is documented."""

    #: what it is called
    name: str = "thing"

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._seen: set[str] = set()

    @classmethod
    async def make(cls) -> Thing:
        """It is documented."""

    # ------------------------------------------------------- the implementation

    def run(self) -> None:
        """It is documented."""
'''


def test_documented_names_are_public_and_private_names_are_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "sample.py").write_text(SOURCE)
    sample = Module(tmp_path / "sample")
    lines = [line for name in sample.public() for line in sample.said(name, name)]
    assert lines == [
        "SIZE = 1",
        "call: (a: int, *, b: str='b') -> None",
        "Thing: class(Base)",
        "Thing.name: str = 'thing'",
        "Thing.__init__: (self, size: int) -> None",
        "Thing.size: int = size",
        "Thing.make: @classmethod async (cls) -> Thing",
    ]


@pytest.mark.parametrize("exported", ['["Thing"]', '["Thing", "helper"]'])
def test_exported_names_are_public_wherever_they_are_defined(
    tmp_path: Path, exported: str
) -> None:
    (tmp_path / "sample.py").write_text(SOURCE)
    front_door = f"from .sample import Thing, helper\n__all__ = {exported}\n"
    (tmp_path / "__init__.py").write_text(front_door)
    package = Module(tmp_path)
    assert package.public() == ast.literal_eval(exported)
    for name in package.public():
        assert next(package.said(name, name)).startswith(f"{name}: ")
