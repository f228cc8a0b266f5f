"""manage.py phx_channel: a channel and its test, to begin with (``mix phx.gen.channel``)."""

from __future__ import annotations

from phx_protocol.management.scaffold import Kind, ScaffoldCommand


class Command(ScaffoldCommand):
    help = "Writes a channel into an app's channels.py, with a test that passes."
    kind = Kind("channel", "channels", "Channel", ("Channel", "event"))
