"""The settings of a site with the admin, on Redis, under a Content-Security-Policy without exceptions."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from tests.settings import *  # noqa: F401,F403
from tests.settings import MIDDLEWARE as PLAIN

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.admin.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["PHX_ADMIN_DB"],
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MIDDLEWARE = ["tests.browser.admin_settings.content_security_policy", *PLAIN]
PHX_PROTOCOL: dict[str, Any] = {"STATE": {"LEASE": 4.0}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {
            "hosts": [os.environ["PHX_REDIS_URL"]],
            "prefix": os.environ["PHX_ADMIN_PREFIX"],  # topics of this site only
        },
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "phx_protocol": {"handlers": ["console"], "level": "WARNING"},
        "django.request": {"handlers": ["console"], "level": "ERROR"},
    },
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware
