"""The configuration of the Django app."""

from __future__ import annotations

from django.apps import AppConfig


class RevocationsConfig(AppConfig):
    name = "phx_protocol.revocations"
    label = "phx_revocations"
    verbose_name = "Phoenix Channels: revocations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..node.part import PARTS
        from .index import Revocations

        if Revocations not in PARTS:  # tests may load the apps again
            PARTS.append(Revocations)
