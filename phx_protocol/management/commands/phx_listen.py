"""manage.py phx_listen: print the broadcasts of topics as they come."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from phx_protocol.logs.printable import printable
from phx_protocol.management.operators import OperatorCommand
from phx_protocol.node.node import get_node
from phx_protocol.wire.messages import Broadcast
from phx_protocol.wire.serializers import decode_payload


class Listener:
    """A subscriber that puts the broadcasts into a queue."""

    fastlane = None

    def __init__(self) -> None:
        self.broadcasts: asyncio.Queue[Broadcast] = asyncio.Queue()
        self.deliver_broadcast = self.broadcasts.put_nowait


class Command(OperatorCommand):
    help = "Prints the broadcasts on topics as they come, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topics", nargs="+", metavar="topic", help='"room:lobby"')
        parser.add_argument(
            "--event", action="append", help="only this event (may be repeated)"
        )
        parser.add_argument("--count", type=int, help="end after so many broadcasts")
        parser.add_argument(
            "--json",
            action="store_true",
            help="a JSON object a line; binary payloads are base64",
        )

    def operate(self, **options: Any) -> None:
        asyncio.run(self._listen(**options))

    async def _listen(self, topics: list[str], **options: Any) -> None:
        node, listener = get_node(), Listener()
        try:
            for topic in topics:
                await node.ready(topic)
                node.pubsub.subscribe(topic, listener)
            if node.link.is_failing:
                raise CommandError("the channel layer cannot be reached")
            if options["verbosity"] > 0 and not options["json"]:
                self.stderr.write(
                    f"Listening to {printable(', '.join(topics))}; Ctrl-C ends it."
                )
            await self._print(listener, **options)
        finally:
            await node.close()

    async def _print(self, listener: Listener, **options: Any) -> None:
        printed = 0
        while printed != options["count"]:
            broadcast = await listener.broadcasts.get()
            if options["event"] and broadcast.event not in options["event"]:
                continue
            self.stdout.write(self._line(broadcast, options["json"]))
            self.stdout.flush()
            printed += 1

    def _line(self, broadcast: Broadcast, as_json: bool) -> str:
        now, payload = datetime.now().astimezone(), decode_payload(broadcast)
        if as_json:
            if isinstance(payload, bytes):
                payload = base64.b64encode(payload).decode()
            head = {"at": now.isoformat(), "topic": broadcast.topic}
            return json.dumps({**head, "event": broadcast.event, "payload": payload})
        is_binary = isinstance(payload, bytes)
        text = (
            f"<{len(payload)} bytes>"
            if is_binary
            else json.dumps(payload, ensure_ascii=False)
        )
        event = self.style.SUCCESS(printable(broadcast.event))
        return f"{now:%H:%M:%S} {printable(broadcast.topic)} {event} {printable(text, None)}"
