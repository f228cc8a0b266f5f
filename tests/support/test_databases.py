"""The tests run on the database that the environment names, and each worker has its own."""

from __future__ import annotations

import os

from django.db import connection


def test_the_database_of_the_tests_is_the_one_that_was_asked_for(db: None) -> None:
    asked = os.environ.get("PHX_TEST_DATABASE")
    assert connection.vendor == ("postgresql" if asked == "postgresql" else "sqlite")
