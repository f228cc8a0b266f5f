"""Settings of the demo. For a project of your own, only the marked parts matter."""

import os
from pathlib import Path
from typing import Any

from phx_protocol.contrib import access_logs

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
SECRET_KEY = os.environ.get("PHX_DEMO_SECRET_KEY", "only-for-the-demo")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "daphne",  # <- phx_protocol: first, so that runserver speaks WebSocket
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",  # <- phx_protocol
    "phx_protocol",  # <- phx_protocol
    "phx_protocol.outbox",  # <- phx_protocol: what is committed is broadcast, whatever happens
    "project.chat",
]

# <- phx_protocol: which class answers which topic, and whose sockets those are
PHX_PROTOCOL = {
    "CHANNELS": {"room:*": "project.chat.channels.RoomChannel"},
    "SOCKETS": {"/socket": "project.chat.sockets.ChatSocket"},
    "LONGPOLL": True,  # for networks that let no WebSocket through
    "THROTTLE": {"*": "50/s", "phx_join": "20/s"},
}

# <- phx_protocol: no tokens in the log of the server
access_logs.install()

# <- phx_protocol: how broadcasts reach the other processes, when there are any
REDIS_URL = os.environ.get("PHX_REDIS_URL")
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
if REDIS_URL:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }

ASGI_APPLICATION = "project.asgi.application"  # <- phx_protocol
ROOT_URLCONF = "project.urls"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "phx_protocol.middleware.ConnectionMiddleware",  # <- phx_protocol: see hello()
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("PHX_DEMO_DB", BASE_DIR / "project/db.sqlite3"),
        "OPTIONS": {
            # readers and writers at once, as a chat has them
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TIME_ZONE = "UTC"
USE_TZ = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "rooms"
LOGOUT_REDIRECT_URL = "login"

STATIC_URL = "static/"
# phoenix.js as npm installed it: /static/phoenix/phoenix.mjs
STATICFILES_DIRS = [
    ("phoenix", BASE_DIR / "project/node_modules/phoenix/priv/static"),
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"phx_protocol": {"handlers": ["console"], "level": "INFO"}},
}
