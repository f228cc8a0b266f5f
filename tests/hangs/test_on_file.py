"""The same with a database in a file, and in two processes (``pytest -n 2``).

In memory nobody closes a connection, whatever he calls; and all threads share one database.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_the_cases_hold_with_a_database_in_a_file(tmp_path: Path) -> None:
    options = [
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(HERE / "test_known_hangs.py")],
        env={**os.environ, "PHX_TEST_DATABASE": str(tmp_path / "test.sqlite3")},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "was destroyed" not in run.stdout + run.stderr
