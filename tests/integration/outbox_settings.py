"""The settings of processes that send an outbox: where it is, they are told by their environment."""

from __future__ import annotations

import json
import os

from tests.support import leases

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = [
    "channels",
    "phx_protocol",
    "phx_protocol.outbox",
    "tests.integration.dying",
]
DATABASES = {"default": json.loads(os.environ["PHX_TEST_DATABASE"])}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": [os.environ["PHX_REDIS_URL"]]},
    }
}
PHX_PROTOCOL = {
    "SOCKETS": {"/socket": "tests.outbox.hearing.OutboxSocket"},
    "STATE": leases.state(),
    "OUTBOX": {"LEASE": 1.5, "POLL": 0.1},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
