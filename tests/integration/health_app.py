"""``uvicorn tests.integration.health_app:application``: an application that answers probes."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

from phx_protocol.asgi import get_phoenix_application  # noqa: E402

application = get_phoenix_application(health="/healthz")
