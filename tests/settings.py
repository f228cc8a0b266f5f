"""Django settings of the package's own tests: with users, sessions and a database.

That is in memory; ``PHX_TEST_DATABASE`` may say ``postgresql``, or the path of a file of SQLite.
"""

from __future__ import annotations

import os
from typing import Any

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["testserver", "example.com"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "phx_protocol",
    "phx_protocol.revocations",
    "phx_protocol.outbox",
    "rest_framework.authtoken",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"


def _database(chosen: str) -> dict[str, Any]:
    if not chosen:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    # code that closes old connections closes each one that is in no transaction
    closing = {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
    if chosen == "postgresql":
        # tests/conftest.py starts it before the first test that needs it, and adds its port
        server = {"NAME": "postgres", "USER": "postgres", "HOST": "127.0.0.1"}
        return {"ENGINE": "django.db.backends.postgresql", **server, **closing}
    file = {"NAME": ":memory:", "TEST": {"NAME": chosen}, "OPTIONS": {"timeout": 1}}
    return {"ENGINE": "django.db.backends.sqlite3", **file, **closing}


DATABASES = {"default": _database(os.environ.get("PHX_TEST_DATABASE", ""))}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
ROOT_URLCONF = "tests.conformance.urls"
USE_TZ = True
