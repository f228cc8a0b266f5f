from __future__ import annotations

import json
import os

from tests.conformance.settings import *  # noqa: F401,F403
from tests.conformance.settings import LOGGING
from tests.support import leases

PHX_PROTOCOL = {
    "SOCKETS": {"/socket": "tests.integration.drain_app.DrainedSocket"},
    "DRAINER": json.loads(os.environ.get("PHX_DRAINER", "true")),
    "STATE": leases.state(),
    "SHUTDOWN_TIMEOUT": 3,
}
ASGI_APPLICATION = "tests.integration.drain_app.application"
LOGGING["loggers"]["phx_protocol"]["level"] = "INFO"  # type: ignore[index]
