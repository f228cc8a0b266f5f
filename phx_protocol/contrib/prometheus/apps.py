"""The configuration of the Django app."""

from __future__ import annotations

from django.apps import AppConfig


class PrometheusConfig(AppConfig):
    name = "phx_protocol.contrib.prometheus"
    label = "phx_prometheus"
    verbose_name = "Phoenix Channels: metrics"

    def ready(self) -> None:
        from . import counters, gauges

        counters.install()
        gauges.install()
