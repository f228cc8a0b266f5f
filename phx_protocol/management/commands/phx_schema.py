"""manage.py phx_schema: write the contract of the sockets, for front ends and other languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from phx_protocol.schema import FORMATS, contract


class Command(BaseCommand):
    help = (
        "Writes what the sockets understand: every topic pattern, event, payload, reply and push, "
        "as the channel classes declare them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=FORMATS, default="asyncapi")
        parser.add_argument("--output", metavar="FILE", help="default: stdout")
        parser.add_argument("--title", help="default: the name of the project")
        parser.add_argument(
            "--contract-version",
            default="1.0.0",
            metavar="VERSION",
            help="of it: %(default)s",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        title = options["title"] or settings.ROOT_URLCONF.partition(".")[0]
        try:
            found = contract()
        except Exception as error:
            raise CommandError(str(error)) from error
        text = FORMATS[options["format"]](found, title, options["contract_version"])
        if options["output"]:
            path = Path(options["output"])
            path.write_text(text.rstrip() + "\n", "utf-8", newline="\n")
        else:
            self.stdout.write(text.rstrip())
