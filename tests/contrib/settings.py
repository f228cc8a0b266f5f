"""A project that keeps secrets out of the access logs: with ``install``, or in LOGGING."""

from __future__ import annotations

import os

from phx_protocol.contrib import access_logs

DEBUG = True  # without which runserver logs nothing
SECRET_KEY = "contrib"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["daphne", "channels", "phx_protocol"]
ROOT_URLCONF = "tests.conformance.urls"
ASGI_APPLICATION = "tests.contrib.asgi.application"
DATABASES: dict[str, object] = {}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
PHX_PROTOCOL = {"FILTER_PARAMETERS": ["password", "token", "secret"]}


if os.environ["ACCESS_LOGS"] == "install":
    access_logs.install()
else:
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "parameters": {"()": "phx_protocol.contrib.access_logs.FilterParameters"}
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "filters": ["parameters"]}
        },
        "loggers": {
            name: {"handlers": ["console"], "level": "INFO", "propagate": False}
            for name in ("uvicorn.access", "uvicorn.error")
        },
    }
