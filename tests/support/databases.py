"""Real databases for tests that commit: a file of SQLite, or Debian's PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

#: the apps whose tables are made
APPS = ("phx_outbox", "phx_revocations")


def settings_of(kind: str, where: str) -> dict[str, Any]:
    """The settings of a database: `where` is the path of the file, or the port of the server."""
    if kind == "sqlite":
        wal = {
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
        }
        engine = "django.db.backends.sqlite3"
        return {"ENGINE": engine, "NAME": where, "OPTIONS": wal}
    postgres = {"NAME": "postgres", "USER": "postgres", "HOST": "127.0.0.1"}
    engine = "django.db.backends.postgresql"
    return {"ENGINE": engine, "PORT": where, **postgres}


@contextlib.contextmanager
def known(name: str, settings: dict[str, Any]) -> Iterator[None]:
    """Django knows the database `name` inside the block; it has the tables, and they are empty."""
    default = connections.settings["default"]
    found = connections.configure_settings({"default": default, name: dict(settings)})
    connections.settings[name] = found[name]
    try:
        for app in APPS:
            call_command("migrate", app, database=name, verbosity=0)
        empty(name)
        yield
    finally:
        with contextlib.suppress(AttributeError):
            connections[name].close()
            del connections[name]
        del connections.settings[name]


def empty(name: str) -> None:
    connection = connections[name]
    tables = [t for t in connection.introspection.table_names() if t.startswith("phx_")]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")


def sqlite_in(folder: Path) -> dict[str, Any]:
    return settings_of("sqlite", str(folder / "db.sqlite3"))
