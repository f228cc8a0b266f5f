"""A workshop with the official tools of the formats."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from phx_protocol.schema import FORMATS, contract
from tests.schema.channels import SOCKETS
from tests.support import servers

HERE = Path(__file__).parent
MODULES = servers.ROOT / "tests" / "node_modules"


def written(format: str, sockets: Any = SOCKETS) -> str:
    return FORMATS[format](contract(sockets), "Chat", "2.1.0")


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A directory from which node and tsc find their packages."""
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path


def parse_asyncapi(workshop: Path, document: str) -> subprocess.CompletedProcess[str]:
    (workshop / "asyncapi.mjs").write_text((HERE / "asyncapi.mjs").read_text())
    (workshop / "contract.json").write_text(document)
    return subprocess.run(
        ["node", "asyncapi.mjs", "contract.json"],
        cwd=workshop,
        capture_output=True,
        text=True,
    )
