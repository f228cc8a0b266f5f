"""manage.py phx_channel: write a first channel and its test (``mix phx.gen.channel``)."""

from __future__ import annotations

from phx_protocol.management.scaffold import Kind, ScaffoldCommand


class Command(ScaffoldCommand):
    help = "Writes a channel into an app's channels.py, with a test that passes."
    kind = Kind("channel", "channels", "Channel", ("Channel", "event"))
