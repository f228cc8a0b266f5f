"""The settings of the application under attack: every limit as it comes."""

from __future__ import annotations

import os

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {
    "SOCKETS": {
        "/socket": "tests.hostile.app.VictimSocket",
        "/tokens": "tests.hostile.app.TokenVictim",
    },
    "LONGPOLL": True,
    "CHECK_ORIGIN": False,
}
ASGI_APPLICATION = "tests.hostile.app.application"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "nowhere": {
            "class": "logging.FileHandler",
            "filename": os.environ.get("HOSTILE_LOG_FILE", os.devnull),
        }
    },
    "loggers": {
        "phx_protocol": {
            "handlers": ["nowhere"],
            "level": os.environ.get("HOSTILE_LOG", "WARNING"),
        }
    },
}
