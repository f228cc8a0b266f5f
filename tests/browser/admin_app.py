"""A site with the admin: ``uvicorn tests.browser.admin_app:application``. Run as a script it makes
the database, and those who sign in there.
"""

from __future__ import annotations

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.browser.admin_settings")
django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402

from phx_protocol import Channel, History, Presence, Socket, event  # noqa: E402
from phx_protocol.admin import live  # noqa: E402
from phx_protocol.asgi import get_phoenix_application  # noqa: E402

#: who may sign in with their own name as the password, and what they may do
STAFF = {
    "root": None,
    "viewer": ["view_topic", "view_connection", "view_node"],
    "lister": ["view_topic"],
    "nobody": [],
}


live.REFRESH = 0.5  # type: ignore[assignment]


class RoomPresence(Presence):
    name = "rooms"


class QuietChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("ask")
    async def ask(self, payload: Any) -> Any:
        return "ok"


class RoomChannel(QuietChannel):
    presence = RoomPresence
    history = History(size=20, ttl=300, events={"new_msg"})

    def presence_meta(self) -> dict[str, Any]:
        return {"device": self.params.get("device", "desk")}


class VisitorSocket(Socket):
    """The parameters say whose it is: ``user`` is a primary key, ``name`` a name."""

    channels = {"room:*": RoomChannel, "*": QuietChannel}
    check_origin = False

    async def connect(self, params: dict[str, Any]) -> None:
        if "user" in params:
            self.scope["user"] = User(pk=int(params["user"]), username=params["name"])


application = get_phoenix_application(
    {"/socket": VisitorSocket}, http=ASGIStaticFilesHandler(get_asgi_application())
)


def prepare() -> None:
    call_command("migrate", verbosity=0)
    for name, codenames in STAFF.items():
        user = User.objects.create_user(
            name, password=name, is_staff=True, is_superuser=codenames is None
        )
        user.user_permissions.set(
            Permission.objects.filter(codename__in=codenames or ())
        )


if __name__ == "__main__":
    prepare()
