"""Pages of topics."""

from __future__ import annotations

from django.urls import reverse

from phx_protocol.admin.urls import address_of

LIST = "/admin/phx_protocol/topic/"


def url(page: str, topic: str) -> str:
    return reverse(f"admin:phx_protocol_topic_{page}", args=[address_of(topic)])
