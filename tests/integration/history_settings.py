"""The settings of the conformance application, with leases for tests."""

from __future__ import annotations

import os

from tests.conformance.settings import *  # noqa: F401,F403
from tests.support import leases

PHX_PROTOCOL = {
    "LOCAL_BUS": bool(os.environ.get("PHX_LOCAL_BUS")),
    "SOCKETS": {"/socket": "tests.integration.history_sockets.HistorySocket"},
    "STATE": leases.state(),
}
