"""The site is built without a warning, and has everything that is public."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.docs import diagrams
from tests.public_surface import surface
from tests.support import servers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that ``make docs`` builds."""
    made = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(
        [*build, "-b", "html", "docs", str(made)],
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return made


def test_it_is_built_without_a_warning(site: Path) -> None:
    assert "Phoenix Channels for Django" in (site / "index.html").read_text()


def test_the_front_page_leads_to_every_page() -> None:
    pages = {path.name for path in (servers.ROOT / "docs").glob("*.md")}
    front = (servers.ROOT / "docs/index.md").read_text()
    assert set(re.findall(r"^- .*?\]\(([\w-]+\.md)\)", front, re.M)) == pages - {
        "index.md"
    }


def test_everything_public_is_in_the_reference(site: Path) -> None:
    # four lines of text, then what is linked to, a line each
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    described = {
        line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()
    }
    public = {re.split(r"[: =]", line)[0] for line in surface()}
    # how it is made stands with the class; commands are in operate.md, settings in settings.md;
    # the last three are for uvicorn, for the node, and for pytest
    elsewhere = re.compile(
        r".*\.__init__|manage\.py|phx_protocol\.conf\..*"
        r"|.*\.PhoenixWebSocketProtocol\.queue|.*\.TestChannel\.fastlane"
        r"|phx_protocol\.pytest_plugin\.pytest_.*"
    )
    missing = {n for n in public - described if not elsewhere.fullmatch(n)}
    assert not missing, sorted(missing)


def test_every_diagram_is_drawn_from_its_source_and_shown_somewhere() -> None:
    pages = "".join(page.read_text() for page in (servers.ROOT / "docs").glob("*.md"))
    shown = set(re.findall(r"diagrams/(\w+)\.svg", pages))
    sources = {path.stem: path for path in diagrams.DIAGRAMS.glob("*.dot")}
    assert shown == set(sources)
    for source in sources.values():
        drawn = source.with_suffix(".svg").read_text()
        assert drawn.startswith(diagrams.digest(source)), f"make diagrams: {source}"
