"""manage.py phx_outbox: send the outboxes from a process of its own."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management.base import CommandParser

from phx_protocol.conf import options as settings
from phx_protocol.management.operators import OperatorCommand
from phx_protocol.node.node import get_node
from phx_protocol.outbox.relays import Relays
from phx_protocol.outbox.testing import send_waiting


class Command(OperatorCommand):
    help = (
        "Sends the broadcasts that wait in the outboxes of all databases, until SIGTERM or Ctrl-C. "
        "Processes that serve clients do the same, unless PHX_PROTOCOL['OUTBOX']['RELAY'] is False."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="send what waits now, and end"
        )

    def operate(self, **options: Any) -> None:
        databases = settings().outbox["DATABASES"]
        if options["once"]:
            sent = sum(map(send_waiting, databases))
            return self.say(f"{sent} rows were sent.", **options)
        self.say(f"Sending the outbox of {', '.join(databases)}.", **options)
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        node = get_node()
        relays = node.part(Relays)
        relays.start()
        try:
            await ended.wait()
        finally:
            await relays.settled()
            await node.close()
