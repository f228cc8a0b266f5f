"""The check of the outboxes: how much waits in them, and since when."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps

from . import advice
from .findings import Verdict, ok, warning
from .site import Site

#: seconds after which a row that waits is late
LATE = 60.0


async def backlog(site: Site) -> Verdict:
    """Ask the databases of the settings what waits."""
    if not apps.is_installed("phx_protocol.outbox"):
        return ok("the site has none")
    app: Any = apps.get_app_config("phx_outbox")
    found = await sync_to_async(app.backlogs)()
    waiting = sum(one.waiting for one in found)
    age = max(one.age for one in found)
    if age > LATE:
        text = f"{waiting} rows wait, the oldest for {age:.0f} s"
        return warning(text, advice.OUTBOX_WAITS)
    if aside := sum(one.aside for one in found):
        return warning(f"{aside} rows were set aside", advice.OUTBOX_ASIDE)
    return ok(f"{waiting} rows wait")
