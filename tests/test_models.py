"""Models without tables: permissions and content types, and nothing else in the database."""

from __future__ import annotations

import io

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection

from phx_protocol.models import Topic
from tests.support import servers

PERMISSIONS = [
    "broadcast_topic",
    "close_topic",
    "disconnect_connection",
    "listen_topic",
    "view_connection",
    "view_node",
    "view_onlineuser",
    "view_topic",
]


def said(*command: str, **options: object) -> str:
    """Return the output of a command of manage.py."""
    output = io.StringIO()
    call_command(*command, stdout=output, **options)
    return output.getvalue()


@pytest.mark.django_db
def test_migrate_makes_permissions_and_no_table() -> None:
    tables = connection.introspection.table_names()
    assert "auth_permission" in tables
    assert not [table for table in tables if table.startswith("phx_protocol")]
    made = Permission.objects.filter(content_type__app_label="phx_protocol")
    assert sorted(made.values_list("codename", flat=True)) == PERMISSIONS


@pytest.mark.django_db
def test_there_is_no_migration_to_make() -> None:
    assert said("makemigrations", "--check", "--dry-run") == "No changes detected\n"


@pytest.mark.django_db
@pytest.mark.parametrize("all", [False, True])
def test_dumpdata_passes_them_over(all: bool) -> None:
    dumped = said("dumpdata", use_base_manager=all)
    assert "phx_protocol" in dumped  # their content types
    assert "phx_protocol.topic" not in dumped


@pytest.mark.django_db
def test_the_database_is_never_asked_for_one(
    django_assert_num_queries: object,
) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert list(Topic.objects.all()) == []
        assert not Topic._base_manager.filter(pk="room:lobby").exists()


@pytest.mark.django_db
def test_the_checks_find_nothing_in_models_and_admin() -> None:
    ours = [apps.get_app_config("phx_protocol")]
    found = run_checks(app_configs=ours, databases=["default"])
    assert [m for m in found if not str(m.id).startswith("phx_protocol.")] == []


def test_they_need_neither_users_nor_the_admin() -> None:
    code = (
        "import django, sys; django.setup(); from phx_protocol import models; "
        "from django.core.management import call_command; call_command('check'); "
        "assert not {'django.contrib.auth', 'django.contrib.admin'} & set(sys.modules)"
    )
    env = {"DJANGO_SETTINGS_MODULE": "tests.conformance.settings"}
    servers.python(code, env, check=True)
