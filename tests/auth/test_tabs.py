"""The page that makes a request, and what proves that a connection is its own."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import SynchronousOnlyOperation
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from phx_protocol.auth.digests import digest
from phx_protocol.auth.tabs import FIELD, HEADER, Tab
from tests.support.visitor import Visitor

ID = "0123456789abcdef.42"


class Session:
    session_key = "key"


def request(
    id: str | None = ID, user: Any = None, session: Any = None, **more: Any
) -> Any:
    made = RequestFactory().post("/", **more)
    if id is not None:
        made.META["HTTP_X_PHX_CONNECTION"] = id
    made.user, made.session = user, session
    return made


def test_a_request_names_its_connection_and_proves_itself_by_user_and_session() -> None:
    tab = Tab.of(request(user=Visitor("ada"), session=Session))
    assert tab == (ID, digest("ada"), digest("key"))
    assert Tab.parse(tab.sender) == tab
    assert HEADER == "X-Phx-Connection"


def test_either_is_enough_and_neither_is_nothing() -> None:
    assert Tab.of(request(user=Visitor("ada"))) == (ID, digest("ada"), "")
    assert Tab.of(request(session=Session)) == (ID, "", digest("key"))
    assert Tab.of(request(user=AnonymousUser())) is None
    assert Tab.of(RequestFactory().get("/", headers={HEADER: ID})) is None


@pytest.mark.parametrize(
    "id", [None, "", "x", "0123456789abcdef.", f"{ID}@", "é", ID * 9]
)
def test_anything_else_is_no_id(id: str | None) -> None:
    assert Tab.of(request(id, user=Visitor("ada"))) is None


def test_a_form_that_was_read_has_it_in_a_field() -> None:
    form = request(None, Visitor("ada"), data={FIELD: ID})
    assert form.POST[FIELD] == ID
    tab = Tab.of(form)
    assert tab is not None and tab.connection == ID


def test_a_body_that_was_not_read_stays_as_it_is() -> None:
    form = request(None, Visitor("ada"), data={FIELD: ID})
    assert Tab.of(form) is None
    assert ID.encode() in form.body
    wrong = "multipart/form-data; boundary=é"
    assert Tab.of(request(None, Visitor("ada"), data=b"x", content_type=wrong)) is None


def test_on_a_loop_a_user_that_was_not_loaded_is_not_asked_for() -> None:
    def load() -> Any:
        raise SynchronousOnlyOperation("not here")

    tab = Tab.of(request(user=SimpleLazyObject(load), session=Session))
    assert tab == (ID, "", digest("key"))


@pytest.mark.parametrize(
    "user, session, is_of",
    [
        ("ada", None, True),
        (None, digest("key"), True),
        ("ada", digest("other"), True),
        ("bob", digest("key"), True),
        ("bob", digest("other"), False),
        ("", "", False),
        (None, None, False),
    ],
)
def test_a_connection_of_the_same_user_or_session_is_the_requests(
    user: str | None, session: str | None, is_of: bool
) -> None:
    tab = Tab.of(request(user=Visitor("ada"), session=Session))
    assert tab is not None and tab.is_of(user, session) is is_of


def test_what_a_request_does_not_have_proves_nothing() -> None:
    tab = Tab.of(request(user=Visitor("ada")))
    assert tab is not None and not tab.is_of(None, "") and not tab.is_of("", None)


@pytest.mark.parametrize("sender", ["", ID, "1.2.3", "a@b"])
def test_the_id_of_a_channel_is_no_tab(sender: str) -> None:
    assert Tab.parse(sender) is None
