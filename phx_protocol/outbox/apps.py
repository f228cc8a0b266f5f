"""The configuration of the Django app."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "phx_protocol.outbox"
    label = "phx_outbox"
    verbose_name = "Phoenix Channels: outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..node.part import PARTS
        from . import checks  # noqa: F401 - it registers itself
        from .relays import Relays

        if Relays not in PARTS:  # tests may load the apps again
            PARTS.append(Relays)
