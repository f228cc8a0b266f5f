"""Django settings of the package's own tests: with users, sessions and a database."""

from __future__ import annotations

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["testserver", "example.com"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "phx_protocol",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
ROOT_URLCONF = "tests.conformance.urls"
USE_TZ = True
