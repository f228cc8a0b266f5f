"""Names that pages use without a definition: the reader's own, or obvious ones."""

from __future__ import annotations

from collections import Counter

from django.contrib.auth.models import User
from django.urls import path

from phx_protocol import Channel, event

__all__ = ["Channel", "User", "crashes", "event", "path"]

crashes: Counter[str] = Counter()
