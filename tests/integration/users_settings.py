"""A site that knows who is online."""

from __future__ import annotations

from typing import Any

from tests.conformance.settings import *  # noqa: F401,F403

ROOT_URLCONF = "tests.conformance.urls"
PHX_PROTOCOL: dict[str, Any] = {
    "SOCKETS": {"/socket": "tests.integration.users_app.UserSocket"},
    "TRACK_USERS": True,
    "TRACK_TOPICS": ["room:*"],
    "OFFLINE_AFTER": 1.5,
    "STATE": {"LEASE": 4.0},
}
