"""manage.py phx_broadcast: send an event to every client of a topic."""

from __future__ import annotations

import sys
from typing import Any

from channels.layers import get_channel_layer
from django.core.management.base import BaseCommand, CommandError, CommandParser

from phx_protocol.api import broadcast
from phx_protocol.conf import options
from phx_protocol.exceptions import DecodeError, PhxError
from phx_protocol.logs.printable import printable
from phx_protocol.management.operators import require_a_server
from phx_protocol.pubsub.link import is_in_memory
from phx_protocol.wire import json


class Command(BaseCommand):
    help = "Broadcasts an event to every client that has joined a topic."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topic", help='as in "room:lobby"')
        parser.add_argument("event", help='as in "new_msg"')
        parser.add_argument(
            "payload",
            nargs="?",
            default="{}",
            help="a JSON object (default {}), or - to read it from stdin",
        )

    def handle(
        self, *args: Any, topic: str, event: str, payload: str, **kwargs: Any
    ) -> None:
        text = sys.stdin.read() if payload == "-" else payload
        try:
            value = json.decode(text)
        except DecodeError as error:
            raise CommandError(f"the payload is {error}") from error
        if not isinstance(value, dict):
            raise CommandError(
                f"the payload must be a JSON object, not {printable(text.strip(), 100)}"
            )
        if is_in_memory(get_channel_layer(options().channel_layer)):
            require_a_server()
        try:
            broadcast(topic, event, value)
        except PhxError as error:
            raise CommandError(printable(str(error))) from error
        if kwargs["verbosity"] > 0:
            done = printable(f"{event} was broadcast on {topic}.")
            self.stdout.write(self.style.SUCCESS(done))
