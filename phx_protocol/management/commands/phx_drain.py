"""manage.py phx_drain: close the sockets of a process before it is stopped."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from phx_protocol.api import drain
from phx_protocol.introspection import NodeInfo, list_nodes
from phx_protocol.management.operators import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Closes the sockets of a process with 1012, in rounds, and has it refuse new ones until it "
        "ends: before a restart where SIGTERM does not drain by itself (hypercorn, granian)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "node",
            nargs="?",
            help="the beginning of its name (see phx_nodes), its pid, or host:pid; all without",
        )
        parser.add_argument(
            "--resume", action="store_true", help="take new connections again"
        )
        parser.add_argument(
            "--no-input",
            "--noinput",
            action="store_false",
            dest="interactive",
            help="do not ask before all are drained",
        )

    def operate(self, **options: Any) -> None:
        resume = options["resume"]
        chosen = self._chosen(options["node"])
        if options["node"] is None and options["interactive"] and not resume:
            question = (
                f"Drain all {len(chosen)} processes? Nobody can connect then. [y/N] "
            )
            if input(question).strip().lower() not in ("y", "yes"):
                raise CommandError("nothing was drained")
        for node in chosen:
            sockets = drain(node.name, resume=resume)
            where = f"{node.name} ({node.host}:{node.pid})"
            done = (
                "takes connections again" if resume else f"drained of {sockets} sockets"
            )
            self.say(f"{where} {done}.", **options)

    def _chosen(self, wanted: str | None) -> list[NodeInfo]:
        """Return the chosen nodes. Raise CommandError if no node matches `wanted`, or several."""
        nodes = list_nodes()
        if wanted is not None:
            nodes = [node for node in nodes if _is_called(node, wanted)]
        if not nodes:
            raise CommandError(f"there is no node {wanted or ''}; phx_nodes lists them")
        if wanted is not None and len(nodes) > 1:
            names = ", ".join(node.name for node in nodes)
            raise CommandError(f"{wanted} may be any of {names}")
        return nodes


def _is_called(node: NodeInfo, wanted: str) -> bool:
    names = (str(node.pid), f"{node.host}:{node.pid}")
    return wanted in names or node.name.startswith(wanted)
