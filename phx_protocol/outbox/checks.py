"""The system checks of the outbox; those of its tables run with ``manage.py check --database``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections

from ..checks.values import check_keys, check_types, is_like
from ..conf import OUTBOX, options, project_settings
from .backlog import backlog

#: seconds after which a row that waits is late
LATE = 60.0
#: what each of them has: order by commits with locks that are skipped, and an index of what waits
WHOLE = {"postgresql", "sqlite"}


@register("phx_protocol")
def check_databases(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    return [*_databases()]


def _databases() -> Iterator[CheckMessage]:
    project = project_settings()
    if [*check_keys(project), *check_types(project)]:
        return  # the others say so
    chosen = options().outbox
    is_right = {
        "DATABASES": isinstance(chosen["DATABASES"], (list, tuple)),
        "RELAY": chosen["RELAY"] in (True, False, None),
        "POLL": is_like(chosen["POLL"], 1),
        "LEASE": is_like(chosen["LEASE"], 1),
    }
    if wrong := {k: v for k, v in chosen.items() if not is_right.get(k)}:
        yield Error(
            f"OUTBOX cannot have {wrong!r}.",
            hint=f"The default is {OUTBOX}.",
            id="phx_protocol.E021",
        )
        return
    for name in chosen["DATABASES"]:
        if name not in connections:
            yield Error(
                f"PHX_PROTOCOL['OUTBOX'] names the database {name!r}, which DATABASES does not have.",
                hint=f"The databases are {', '.join(connections)}.",
                id="phx_protocol.E022",
            )
        elif _is_deferred(connections[name]):
            yield Warning(
                f"On {name!r}, which is SQLite, transactions that begin to write late fail if a relay of the outbox writes.",
                hint='Set "OPTIONS": {"transaction_mode": "IMMEDIATE"} for it.',
                id="phx_protocol.W013",
            )
        elif connections[name].vendor not in WHOLE:
            yield Warning(
                f"The outbox of {name!r} is on {connections[name].display_name}, on which it is not tested.",
                hint="It is made for PostgreSQL and SQLite: others have no index of what waits only.",
                id="phx_protocol.W010",
            )


def _is_deferred(connection: Any) -> bool:
    """Return whether it is a file of SQLite whose transactions lock it when they first write."""
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return False
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    return bool(mode.upper() == "DEFERRED")


@register(Tags.database)
def check_backlog(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    return [*_backlogs(databases or ())]


def _backlogs(databases: Sequence[str]) -> Iterator[CheckMessage]:
    for name in {*databases} & {*options().outbox["DATABASES"]}:
        try:
            found = backlog(name)
        except DatabaseError:
            continue  # it is not migrated yet
        if found.age > LATE:
            yield Warning(
                f"{found.waiting} rows wait in the outbox of {name!r}, the oldest for {found.age:.0f} s.",
                hint="Does a process serve clients, or run phx_outbox? Its log says what fails.",
                id="phx_protocol.W011",
            )
        if found.aside:
            yield Warning(
                f"{found.aside} rows of the outbox of {name!r} were set aside, as they cannot be sent.",
                hint="The admin shows why, and sends them again or deletes them.",
                id="phx_protocol.W012",
            )
