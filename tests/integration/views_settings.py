"""The settings of a site with pages beside its sockets, and a database in a file."""

from __future__ import annotations

import os

from tests.conformance.settings import *  # noqa: F401,F403

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "channels",
    "phx_protocol",
]
ROOT_URLCONF = "tests.integration.views_app"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("PHX_DATABASE", ":memory:"),
        "CONN_MAX_AGE": int(os.environ.get("PHX_CONN_MAX_AGE", 0)),
        "ATOMIC_REQUESTS": True,
    }
}
PHX_PROTOCOL: dict[str, object] = {}
