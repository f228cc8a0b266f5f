"""manage.py phx_doctor: check a site as its clients see it, and advise what to change."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from phx_protocol.logs.printable import printable

if TYPE_CHECKING:
    from phx_protocol.management.doctor import Finding

#: status -> the style of its word
STYLES = {"ok": "SUCCESS", "warning": "WARNING", "fault": "ERROR", "skipped": "NOTICE"}


class Command(BaseCommand):
    help = "Connects to a site as phoenix.js does, and shows what is wrong and how to repair it."
    # the site that it checks may have other settings
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", help="the mount, as in https://example.com/socket")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a connect parameter; may be given several times",
        )
        parser.add_argument("--auth-token", help="what phoenix.js has as authToken")
        parser.add_argument(
            "--origin", help="the Origin of your pages (default: that of the URL)"
        )
        parser.add_argument(
            "--idle",
            type=float,
            default=65.0,
            metavar="SECONDS",
            help="how long a silent connection is watched, and with it how long this takes "
            "(default 65); what is closed within 30 is a fault, within 60 a warning",
        )
        parser.add_argument(
            "--http-port",
            type=int,
            default=80,
            metavar="PORT",
            help="where the host may answer over http when the URL is https (default 80)",
        )
        parser.add_argument(
            "--no-layer",
            action="store_true",
            help="these are not the settings of the site: leave out what needs them",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="a list of {check, status, message, change}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from phx_protocol.management import doctor
        except ImportError as error:
            raise CommandError(
                f"{error}: phx_doctor needs `pip install phx_protocol[doctor]`"
            ) from error
        if options["idle"] <= 0:
            raise CommandError("--idle takes seconds above 0")
        try:
            mount = doctor.parse_mount(options["url"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        site = doctor.Site(
            mount,
            options["origin"] or doctor.own_origin(mount),
            tuple(map(_pair, options["param"])),
            options["auth_token"],
            options["idle"],
            options["http_port"],
        )
        without = doctor.of_the_settings(mount) if options["no_layer"] else frozenset()
        findings = asyncio.run(doctor.examine(site, without))
        if options["json"]:
            rows = [dataclasses.asdict(finding) for finding in findings]
            self.stdout.write(json.dumps(rows, indent=2))
        else:
            self._print(findings, options["verbosity"])
        faults = [f.check for f in findings if f.status is doctor.Status.FAULT]
        if faults:
            raise CommandError(f"{len(faults)} at fault: {', '.join(faults)}")

    def _print(self, findings: list[Finding], verbosity: int) -> None:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            if verbosity == 0 and finding.status in ("ok", "skipped"):
                continue
            word = getattr(self.style, STYLES[finding.status])(f"{finding.status:<8}")
            message = printable(finding.message)
            self.stdout.write(f"{word} {finding.check:<{width}}  {message}")
            for line in finding.change.split("\n") if finding.change else ():
                self.stdout.write(f"{' ' * 11}{printable(line)}".rstrip())


def _pair(param: str) -> tuple[str, str]:
    name, separator, value = param.partition("=")
    if not name or not separator:
        raise CommandError(f"--param takes NAME=VALUE, not {param!r}")
    return name, value
