"""The ASGI application of a site: sockets, and a page of Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.site_settings")

from phx_protocol.asgi import get_phoenix_application  # noqa: E402

application = get_phoenix_application()
