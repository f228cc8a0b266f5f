"""manage.py phx_presence: write a first presence and its test (``mix phx.gen.presence``)."""

from __future__ import annotations

from django.core.management.base import CommandParser

from phx_protocol.management.scaffold import Kind, ScaffoldCommand


class Command(ScaffoldCommand):
    help = "Writes a presence into an app's presence.py, with a test that passes."
    kind = Kind("presence", "presence", "Presence", ("Presence",))

    def add_name(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name",
            nargs="?",
            help='as in "room", for the class RoomPresence (default: that of the app)',
        )
