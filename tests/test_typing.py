"""Declared types are checked by mypy too."""

from __future__ import annotations

import subprocess
import sys

from tests.support import servers


def test_mypy_accepts_right_types_and_refuses_wrong_ones() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typing_cases/room.py"],
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
