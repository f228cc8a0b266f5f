"""A site with users, in a database that all its processes share."""

from __future__ import annotations

import os
from typing import Any

from tests.conformance.settings import *  # noqa: F401,F403

ROOT_URLCONF = "tests.conformance.urls"
INSTALLED_APPS = [
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "phx_protocol",
    "phx_protocol.revocations",
]
DATABASES: dict[str, Any] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["PHX_DATABASE"],
        "OPTIONS": {"timeout": 20},
    }
}
PHX_PROTOCOL: dict[str, Any] = {
    "MAX_CONNECTIONS_PER_USER": int(os.environ.get("PHX_PER_USER", 0)) or None,
    "CONNECT_RATE": os.environ.get("PHX_CONNECT_RATE"),
    "LONGPOLL": True,
    "TRUSTED_PROXIES": ["127.0.0.1"],
    "SOCKETS": {
        "/socket": "tests.integration.revocation_app.UserSocket",
        "/tokens": "tests.integration.revocation_app.OwnTokenSocket",
        "/fresh": "tests.integration.revocation_app.FreshTokenSocket",
        "/control": "tests.integration.revocation_app.ControlSocket",
    },
}
