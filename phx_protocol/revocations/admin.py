"""The admin's list of revocations. To delete one ends it, in a few minutes everywhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from ..admin.live import ModelAdmin, to_datetime
from .models import Revocation


@admin.register(Revocation)
class RevocationAdmin(ModelAdmin):
    list_display = ("kind", "key", "revoked", "expires")
    list_filter = ("kind",)
    search_fields = ("key",)
    fields = ("kind", "key", "revoked", "expires")
    readonly_fields = fields
    ordering = ("-revoked_at",)

    @admin.display(ordering="revoked_at")
    def revoked(self, row: Revocation) -> datetime:
        return to_datetime(row.revoked_at)

    @admin.display(ordering="expires_at")
    def expires(self, row: Revocation) -> datetime | None:
        return None if row.expires_at is None else to_datetime(row.expires_at)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
