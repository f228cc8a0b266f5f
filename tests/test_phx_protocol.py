"""The front door: what ``import phx_protocol`` needs, and what it gives."""

from __future__ import annotations

import subprocess
import sys

import phx_protocol
from tests.support.servers import ROOT


def test_importing_the_package_needs_no_settings() -> None:
    code = (
        "import phx_protocol, phx_protocol.wire.serializers; phx_protocol.EncodeError"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, cwd=ROOT)


def test_every_public_name_is_there() -> None:
    for name in phx_protocol.__all__:
        assert getattr(phx_protocol, name) is not None
    assert sorted(phx_protocol.__all__) == phx_protocol.__all__
