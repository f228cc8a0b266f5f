"""Metrics for Prometheus, from the signals of ``phx_protocol.signals``.

It needs both an app and a view (without the app, the view shows none of our metrics)::

    INSTALLED_APPS = [..., "phx_protocol.contrib.prometheus"]

    path("metrics", prometheus.metrics)  # from phx_protocol.contrib import prometheus

The metrics are in prometheus_client's own registry, so that every other exporter of the project
shows them too. docs/metrics.md lists them, and explains the setup of several workers.
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

try:
    import prometheus_client  # noqa: F401 - named below if it is missing
except ImportError as error:
    raise ImproperlyConfigured(
        "phx_protocol.contrib.prometheus needs prometheus-client: "
        "pip install 'phx_protocol[prometheus]'"
    ) from error

from .views import metrics

__all__ = ["metrics"]
