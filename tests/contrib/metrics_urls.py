from __future__ import annotations

from django.urls import path

from phx_protocol.contrib import prometheus

urlpatterns = [path("metrics", prometheus.metrics)]
