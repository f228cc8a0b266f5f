"""CONTRIBUTING says of every room of the package what lives there."""

from __future__ import annotations

import re
from collections import Counter

from tests.docs.test_reference import PACKAGE
from tests.support.servers import ROOT


def rooms() -> set[str]:
    """The folders with files of ours, and the modules at the top."""
    files = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".lua") and path.stat().st_size
    ]
    folders = {f"{path.parent.as_posix()}/" for path in files if len(path.parts) > 1}
    modules = {path.name for path in files if len(path.parts) == 1}
    return folders | modules | {"static/", "templates/"}


def test_every_room_is_explained_once_and_no_other() -> None:
    page = (ROOT / ".github/CONTRIBUTING.md").read_text()
    (section,) = re.findall(r"^## Which room .+?(?=^## )", page, re.M | re.S)
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.M)
    assert Counter(name for name, _ in rows) == Counter(rooms())
    for name, sentence in rows:
        assert sentence.endswith("."), name
