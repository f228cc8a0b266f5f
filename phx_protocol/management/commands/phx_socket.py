"""manage.py phx_socket: write a first socket and its test (``mix phx.gen.socket``)."""

from __future__ import annotations

from phx_protocol.management.scaffold import Kind, ScaffoldCommand


class Command(ScaffoldCommand):
    help = "Writes a socket into an app's sockets.py, with a test that passes."
    kind = Kind("socket", "sockets", "Socket", ("Socket",))
