"""manage.py phx_disconnect: close connections of any process."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from phx_protocol.api import disconnect, disconnect_socket, disconnect_user
from phx_protocol.introspection import list_sockets
from phx_protocol.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = "Closes a connection, those of a Socket.id(), or all of a user. Clients connect again."

    def add_arguments(self, parser: CommandParser) -> None:
        chosen = parser.add_mutually_exclusive_group(required=True)
        chosen.add_argument(
            "id", nargs="?", help="the id of a socket (see phx_sockets), or its name"
        )
        chosen.add_argument("--user", help="all sockets of the user with this key")

    def operate(self, **options: Any) -> None:
        id, user = options["id"], options["user"]
        sockets = list_sockets(user=user)
        if user is None:
            sockets = [socket for socket in sockets if id in (socket.id, socket.name)]
        if not sockets:
            what = f"named {id!r}" if user is None else f"of the user {user!r}"
            raise CommandError(f"there is no socket {what}")
        if user is not None:
            disconnect_user(user)
        elif sockets[0].id == id:
            disconnect_socket(id)
        else:
            disconnect(id)
        plural = "" if len(sockets) == 1 else "s"
        self.say(f"{len(sockets)} socket{plural} disconnected.", **options)
