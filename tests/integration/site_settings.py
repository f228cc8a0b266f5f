"""Settings of a site of which a test says some in PHX_SETTINGS, as JSON."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F401,F403

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.integration.site_urls"
PHX_PROTOCOL = {"LONGPOLL": True, "CHANNELS": {}}
globals().update(json.loads(os.environ.get("PHX_SETTINGS", "{}")))
