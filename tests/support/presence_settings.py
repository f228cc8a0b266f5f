"""The settings of the conformance application, with leases for tests."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403
from tests.support import leases

PHX_PROTOCOL = {"STATE": leases.state()}
