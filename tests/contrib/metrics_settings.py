"""The settings of the conformance application, with metrics."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

INSTALLED_APPS = ["channels", "phx_protocol", "phx_protocol.contrib.prometheus"]
ROOT_URLCONF = "tests.contrib.metrics_urls"
PHX_PROTOCOL = {"SOCKETS": {"/socket": "tests.contrib.rooms.Doors"}}
