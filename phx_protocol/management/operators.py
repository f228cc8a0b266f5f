"""What the commands have in common that look at, or act on, the processes with sockets."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ..exceptions import PhxError
from ..introspection import sees_only_itself
from ..logs.printable import printable

IN_MEMORY = (
    "the channel layer or the state is in memory: this process sees nothing of the server's. "
    "Configure a Redis layer in CHANNEL_LAYERS."
)


class OperatorCommand(BaseCommand):
    """Subclasses say in ``operate`` what they do; what goes wrong there is a CommandError."""

    def handle(self, *args: Any, **options: Any) -> None:
        if sees_only_itself():
            raise CommandError(IN_MEMORY)
        try:
            self.operate(**options)
        except (PhxError, LookupError, TimeoutError) as error:
            raise CommandError(printable(str(error))) from error
        except KeyboardInterrupt:
            pass  # the way to end what goes on and on

    def operate(self, **options: Any) -> None:
        raise NotImplementedError

    def say(self, text: str, **options: Any) -> None:
        """What was done; nothing with ``--verbosity 0``."""
        if options["verbosity"] > 0:
            self.stdout.write(self.style.SUCCESS(printable(text)))


class ListCommand(OperatorCommand):
    """A command that shows a table, as text or JSON, once or again and again."""

    #: the heads of the columns
    columns: Sequence[str]
    #: what is shown when there is nothing
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
        """Pairs of what ``--json`` prints (a dataclass) and the cells of a row."""
        raise NotImplementedError

    def operate(self, **options: Any) -> None:
        self._show(**options)
        while options["watch"]:
            time.sleep(options["watch"])
            # on a terminal in place, in a file one below the other
            self.stdout.write("\033[H\033[J" if self.stdout.isatty() else "", ending="")
            self._show(**options)

    def _show(self, **options: Any) -> None:
        rows = list(self.rows(**options))
        if options["json"]:
            told = [dataclasses.asdict(info) for info, _ in rows]
            self.stdout.write(json.dumps(told))  # in ASCII: no terminal obeys it
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
    """A cell as text; what clients chose cannot move the cursor of a terminal."""
    text = f"{cell:.1f}" if isinstance(cell, float) else str(cell)
    return printable(text, None)


def ago(then: float) -> str:
    """A moment (seconds of the epoch) as the time since: ``12s``, ``3m``, ``5h``, ``2d``."""
    seconds = max(0, int(time.time() - then))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
