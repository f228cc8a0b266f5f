"""The site is built without a warning, and has everything that is public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make docs`` makes."""
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
