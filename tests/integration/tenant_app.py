"""Two tenants in one process: ``uvicorn tests.integration.tenant_app:application``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.tenant_settings")

from django.db import connection  # noqa: E402
from django_tenants.utils import get_tenant_model, tenant_context  # noqa: E402

from phx_protocol import Channel, Socket, event  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402


class NotesChannel(Channel):
    def authorize(self) -> bool:
        return bool(self.subtopic == self.socket.assigns["tenant"].schema_name)

    def join(self, payload: Any) -> Any:
        return "ok", self.notes()

    @event("add")
    def add(self, payload: Any) -> Any:
        from tests.integration.tenant_notes.models import Note

        Note.objects.create(text=payload["text"])
        return "ok", self.notes()

    @event("slow")
    def slow(self, payload: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(%s)", [payload["seconds"]])
        return "ok", self.notes()

    def notes(self) -> dict[str, Any]:
        """Whose notes there are, and which schema the connection has."""
        from tests.integration.tenant_notes.models import Note

        texts = {
            text.partition(" ")[0]
            for text in Note.objects.values_list("text", flat=True)
        }
        return {"whose": sorted(texts), "schema": connection.schema_name}


class TenantSocket(Socket):
    channels = {"notes:*": NotesChannel}
    callbacks_in_threads = True

    def connect(self, params: Any) -> None:  # type: ignore[override]
        self.assigns["schema"] = connection.schema_name

    def callback_context(
        self, channel: Channel | None, name: str
    ) -> AbstractContextManager[Any]:
        if "tenant" not in self.assigns:
            host = (self.connect_info.header("host") or "").partition(":")[0]
            tenants = get_tenant_model().objects
            self.assigns["tenant"] = tenants.get(domains__domain=host)
        return tenant_context(self.assigns["tenant"])


class Control(Channel):
    """It is no tenant's: it uses Django's async ORM, in a thread of Django's."""

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("count")
    async def count(self, payload: Any) -> Any:
        return "ok", {"tenants": await get_tenant_model().objects.acount()}


class ControlSocket(Socket):
    channels = {"control": Control}


application = get_phoenix_application()
