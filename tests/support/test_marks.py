"""Tests that start a process have the mark; without it they fail. Those with a database have one too."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from django.test import SimpleTestCase, TestCase

from tests.support import commands, marks, servers
from tests.support.rooms import OpenRoom


def starts_at_once() -> None:
    subprocess.run(["true"])


def starts_by_way_of_others() -> None:
    def inside() -> None:
        with servers.redis(servers.ROOT):
            pass

    inside()


async def starts_by_way_of_a_class() -> None:
    await commands.Command.start("url")


TABLE = {"known": starts_at_once}


def starts_what_is_in_a_table(name: str) -> None:
    TABLE[name]()


def starts_nothing() -> None:
    assert servers.free_port() and OpenRoom


@pytest.mark.parametrize(
    "function, wanted",
    [
        (starts_at_once, True),
        (starts_by_way_of_others, True),
        (starts_by_way_of_a_class, True),
        (starts_what_is_in_a_table, True),
        (starts_nothing, False),
    ],
)
def test_code_that_starts_a_process_is_found(
    function: Callable[..., Any], wanted: bool
) -> None:
    assert marks.leads_to_process(function) is wanted


def test_a_test_without_the_mark_cannot_start_a_process() -> None:
    hidden = getattr(subprocess, "".join(["r", "un"]))
    with pytest.raises(RuntimeError, match="not marked"):
        hidden(["true"])


# ------------------------------------------------------------------- the database


@pytest.fixture
def rows(db: None) -> None:
    """As fixtures that make rows."""


@pytest.fixture
def is_marked(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker(marks.DATABASE) is not None


def test_a_test_whose_fixture_needs_the_database_is_marked(
    rows: None, is_marked: bool
) -> None:
    assert is_marked


@pytest.mark.django_db
def test_a_test_that_says_it_needs_the_database_is_marked(is_marked: bool) -> None:
    assert is_marked


def test_a_test_without_the_database_is_not_marked(is_marked: bool) -> None:
    assert not is_marked


class InATestCase(TestCase):
    @pytest.fixture(autouse=True)
    def _marked(self, is_marked: bool) -> None:
        self.is_marked = is_marked

    def test_it_is_marked(self) -> None:
        assert self.is_marked


class InATestCaseWithoutTheDatabase(SimpleTestCase):
    @pytest.fixture(autouse=True)
    def _marked(self, is_marked: bool) -> None:
        self.is_marked = is_marked

    def test_it_is_not_marked(self) -> None:
        assert not self.is_marked
