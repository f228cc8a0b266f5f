"""The front door: what ``import phx_protocol`` needs, and what it gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import phx_protocol
from tests.public_surface import Module
from tests.support.servers import ROOT


def test_importing_the_package_needs_no_settings() -> None:
    code = (
        "import phx_protocol, phx_protocol.wire.serializers; phx_protocol.EncodeError"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, cwd=ROOT)


def test_every_public_name_is_there() -> None:
    for name in phx_protocol.__all__:
        assert getattr(phx_protocol, name) is not None
    assert set(phx_protocol.__all__) <= set(dir(phx_protocol))


def test_type_checkers_find_every_public_name_where_python_does() -> None:
    assert Module(Path(phx_protocol.__file__).parent).exported() == phx_protocol._HOMES


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Chanel'"):
        phx_protocol.Chanel
