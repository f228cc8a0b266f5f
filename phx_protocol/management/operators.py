"""The base classes of the commands that show, or control, the processes with sockets."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from channels.layers import get_channel_layer
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ..bus.folder import folders_of_others, name_of_user, neighbours
from ..conf import options
from ..exceptions import PhxError
from ..introspection import sees_one_process
from ..logs.printable import printable
from ..node.blocking import NO_SERVER
from ..pubsub.link import is_in_memory

IN_MEMORY = (
    "the channel layer or the state is in memory: this process sees nothing of the server's. "
    "Configure phx_protocol.layers.RedisLayer in CHANNEL_LAYERS; processes of one machine also reach "
    "each other with DEBUG or LOCAL_BUS."
)
NOBODY = f"{NO_SERVER}, and the channel layer is in memory."


class OperatorCommand(BaseCommand):
    """A command whose subclasses define ``operate``; errors there become a CommandError."""

    def handle(self, *args: Any, **options: Any) -> None:
        require_a_server()
        try:
            self.operate(**options)
        except (PhxError, LookupError, TimeoutError) as error:
            raise CommandError(printable(str(error))) from error
        except KeyboardInterrupt:
            pass  # Ctrl-C ends commands that run for ever

    def operate(self, **options: Any) -> None:
        raise NotImplementedError

    def say(self, text: str, **options: Any) -> None:
        """Write what was done; write nothing with ``--verbosity 0``."""
        if options["verbosity"] > 0:
            self.stdout.write(self.style.SUCCESS(printable(text)))


def require_a_server() -> None:
    """Raise CommandError, with the reason, if this process cannot reach any that serves clients."""
    if sees_one_process():
        raise CommandError(IN_MEMORY)
    if not is_in_memory(get_channel_layer(options().channel_layer)):
        return
    if not any(process.serves for process in neighbours()):
        raise CommandError(" ".join([NOBODY, *_users()]))


def _users() -> Iterator[str]:
    if others := folders_of_others():
        me = name_of_user(os.getuid())
        yield (
            f"This command runs as {me}, and may not open the sockets of {', '.join(others)}: "
            "run it as the user that the server runs as."
        )


class ListCommand(OperatorCommand):
    """A command that shows a table, as text or JSON, once or repeatedly."""

    #: the heads of the columns
    columns: Sequence[str]
    #: the text that is shown if there are no rows
    empty: str

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON array")
        parser.add_argument(
            "--watch",
            nargs="?",
            type=float,
            const=2.0,
            metavar="SECONDS",
            help="show it again and again (every 2 seconds), until Ctrl-C",
        )

    def rows(self, **options: Any) -> Iterable[tuple[Any, Sequence[Any]]]:
        """Return pairs: the dataclass that ``--json`` prints, and the cells of a row."""
        raise NotImplementedError

    def operate(self, **options: Any) -> None:
        self._show(**options)
        while options["watch"]:
            time.sleep(options["watch"])
            # overwrite the last table on a terminal; in a file append the next one
            self.stdout.write("\033[H\033[J" if self.stdout.isatty() else "", ending="")
            self._show(**options)

    def _show(self, **options: Any) -> None:
        rows = list(self.rows(**options))
        if options["json"]:
            listed = [dataclasses.asdict(info) for info, _ in rows]
            self.stdout.write(json.dumps(listed))  # ASCII, so no control codes
        elif not rows:
            self.stdout.write(self.style.WARNING(self.empty))
        else:
            self._write_table([cells for _, cells in rows])

    def _write_table(self, rows: list[Sequence[Any]]) -> None:
        texts = [[_text(cell) for cell in cells] for cells in rows]
        lines = zip(*[self.columns, *texts])
        widths = [max(map(len, column)) for column in lines]
        head, *body = [
            "  ".join(c.ljust(w) for c, w in zip(cells, widths)).rstrip()
            for cells in [self.columns, *texts]
        ]
        self.stdout.write(self.style.MIGRATE_HEADING(head))
        for line in body:
            self.stdout.write(line)


def _text(cell: Any) -> str:
    """Return a cell as printable text, so that clients cannot control the terminal."""
    text = f"{cell:.1f}" if isinstance(cell, float) else str(cell)
    return printable(text, None)


def ago(then: float) -> str:
    """Return the time since `then` (seconds of the epoch): ``12s``, ``3m``, ``5h``, ``2d``."""
    seconds = max(0, int(time.time() - then))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
