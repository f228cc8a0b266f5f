"""Rooms with histories: ``uvicorn tests.integration.history_app:application``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.history_settings")

from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests.support import leases  # noqa: E402

leases.beat_often()
application = get_phoenix_application(
    {"/socket": "tests.integration.history_sockets.HistorySocket"}
)
