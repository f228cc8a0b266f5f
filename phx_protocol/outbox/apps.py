"""The configuration of the Django app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import AppConfig

from ..wire.messages import Broadcast


class OutboxConfig(AppConfig):
    name = "phx_protocol.outbox"
    label = "phx_outbox"
    verbose_name = "Phoenix Channels: outbox"
    default_auto_field = "django.db.models.BigAutoField"

    @staticmethod
    def write(broadcasts: Iterable[Broadcast], using: str | None) -> None:
        """Write rows, for code that does not know whether the app is installed."""
        from .api import write

        write(broadcasts, using)

    @staticmethod
    def backlogs() -> list[Any]:
        """Return what waits in each database, for code that does not know whether the app is installed."""
        from ..conf import options
        from .backlog import backlog

        return [*map(backlog, options().outbox["DATABASES"])]

    def ready(self) -> None:
        from ..node.part import PARTS
        from . import checks  # noqa: F401 - it registers itself
        from .relays import Relays

        if Relays not in PARTS:  # tests may load the apps again
            PARTS.append(Relays)
