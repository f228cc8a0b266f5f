"""As tests.settings, with a database in a file, in which every thread has a connection of its own."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F401,F403

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "TEST": {"NAME": os.environ["PHX_TEST_DATABASE"]},
        # code that closes old connections closes each one that is in no transaction
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"timeout": 1},
    }
}
