"""The settings of the conformance application, with a lease that a test can wait for."""

from __future__ import annotations

import os

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {
    "LOCAL_BUS": bool(os.environ.get("PHX_LOCAL_BUS")),
    "SOCKETS": {"/socket": "tests.integration.history_sockets.HistorySocket"},
    "STATE": {"LEASE": float(os.environ.get("PHX_LEASE", 2.0))},
}
