"""A site that knows who is online."""

from __future__ import annotations

from typing import Any

from tests.conformance.settings import *  # noqa: F401,F403
from tests.support import leases

ROOT_URLCONF = "tests.conformance.urls"
PHX_PROTOCOL: dict[str, Any] = {
    "SOCKETS": {"/socket": "tests.integration.users_app.UserSocket"},
    "TRACK_USERS": True,
    "TRACK_TOPICS": ["room:*"],
    # longer than the second until a change is written, and what a busy machine needs
    "OFFLINE_AFTER": 4.0,
    "STATE": leases.state(),
}
