"""The admin's list of what waits in the outbox, and of what was set aside."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from ..admin.live import ModelAdmin, to_datetime
from ..logs.printable import printable
from . import hints
from .models import Message

#: most characters of a payload
SHOWN = 10_000
#: so many rows are sent again in one transaction
TOGETHER = 100


class State(admin.SimpleListFilter):
    """A filter: the rows that wait, or those that were set aside."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("aside", "set aside")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(failed_at__isnull=self.value() == "waiting")


@admin.register(Message)
class MessageAdmin(ModelAdmin):
    list_display = ("topic", "event", "waits_for", "size", "state", "reason")
    list_filter = (State,)
    search_fields = ("topic", "event")
    fields = ("topic", "event", "written", "state", "reason", "size", "sender", "shown")
    readonly_fields = fields
    ordering = ("id",)
    # it may have millions of rows
    show_full_result_count = False
    actions = ("send_again",)

    @admin.display(description="waits for", ordering="written_at")
    def waits_for(self, row: Message) -> str:
        return f"{row.age:.1f} s"

    @admin.display(ordering="written_at")
    def written(self, row: Message) -> datetime:
        return to_datetime(row.written_at)

    @admin.display
    def state(self, row: Message) -> str:
        return "waiting" if row.failed_at is None else "set aside"

    @admin.display(description="payload")
    def shown(self, row: Message) -> str:
        payload = bytes(row.payload)
        if row.is_binary:
            return f"{len(payload)} bytes"
        return printable(payload.decode(errors="replace")[:SHOWN], None)

    @admin.action(description="Send again", permissions=["delete"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Send rows again that were set aside, as new ones: the place of the old ones is over."""
        aside = queryset.filter(failed_at__isnull=False).defer(None).order_by("id")
        last = aside.values_list("pk", flat=True).last()
        # none twice: what fails again meanwhile has a higher id
        aside, count = aside.filter(pk__lte=last or 0), 0
        # not all together: they may be too many, and too large
        while some := self._again(aside, queryset.db):
            count += some
        messages.success(request, f"{count} rows are sent again.")

    def _again(self, aside: QuerySet[Any], database: str) -> int:
        """Send the first rows of `aside` again, and return how many."""
        with transaction.atomic(using=database):
            rows = [*aside.select_for_update()[:TOGETHER]]
            if not rows:
                return 0
            made = Message.objects.using(database)
            made.filter(pk__in=[row.pk for row in rows]).delete()
            for row in rows:
                row.pk, row.failed_at, row.reason = None, None, ""
            made.bulk_create(rows)
            tell = partial(hints.tell, database, {row.partition for row in rows})
            transaction.on_commit(tell, using=database, robust=True)
        return len(rows)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # a page of the list would read those of a hundred rows
        return super().get_queryset(request).defer("payload")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
