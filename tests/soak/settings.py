"""The settings of the application under soak."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {
    "SOCKETS": {"/socket": "tests.soak.app.SoakSocket"},
    "OUTBOUND": {"bytes": 256 * 1024, "seconds": 2.0, "hard_bytes": 8 * 1024 * 1024},
}
ASGI_APPLICATION = "tests.soak.app.application"
