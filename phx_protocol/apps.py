"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class PhxProtocolConfig(AppConfig):
    name = "phx_protocol"
    verbose_name = "Phoenix Channels"

    def ready(self) -> None:
        from . import checks, django_json  # noqa: F401 - registers both
