"""manage.py phx_routes: list the topic patterns and the channel class of each."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from phx_protocol.conf import options
from phx_protocol.socket.routes import load_socket, routes_of


class Command(BaseCommand):
    help = "Lists the sockets, their transports, topic patterns in order, and channel classes."

    def handle(self, *args: Any, **kwargs: Any) -> None:
        for mount, target in options().sockets.items():
            try:
                socket_class = load_socket(target)
                routes = list(routes_of(socket_class))
            except Exception as error:
                raise CommandError(f"{mount}: {error}") from error
            name = f"{socket_class.__module__}.{socket_class.__qualname__}"
            paths = ", ".join(options(socket_class).paths(mount).values())
            heading = f"{mount} ({paths})  {name}"
            self.stdout.write(self.style.MIGRATE_HEADING(heading))
            width = max((len(pattern) for pattern, _ in routes), default=0)
            for pattern, route in routes:
                channel = route.channel_class
                path = f"{channel.__module__}.{channel.__qualname__}"
                assigns = f"  {dict(route.assigns)}" if route.assigns else ""
                self.stdout.write(f"  {pattern:<{width}}  {path}{assigns}")
            if not routes:
                self.stdout.write(self.style.WARNING("  no channels"))
