"""Open sockets after a logout, another login and a new password."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import Client as DjangoClient
from django.test import RequestFactory

from phx_protocol.auth.sessions import session_store
from phx_protocol.exceptions import BroadcastError
from phx_protocol.receivers import django as receivers
from phx_protocol.testing import TestSocket, connect
from phx_protocol.tokens import user_token
from tests.auth.rooms import (
    UNAUTHORIZED,
    OfToken,
    User,
    UserSocket,
    ada,
    change_password,
    cookie_of,
    denied,
    signed_in,
    socket,
)
from tests.support.asgi_poll_client import Client

__all__ = ["ada", "socket"]


pytestmark = pytest.mark.django_db(transaction=True)


async def test_logging_out_closes_the_sockets_of_the_user(ada: Any) -> None:
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    session = browser.cookies[settings.SESSION_COOKIE_NAME].value
    headers = {
        "host": "testserver",
        "cookie": f"{settings.SESSION_COOKIE_NAME}={session}",
        "origin": "http://testserver",
    }
    socket = await connect(UserSocket, headers=headers)
    await socket.join("members")
    client = Client(UserSocket, headers=headers)
    await client.open()
    poll = await client.start_poll()
    await sync_to_async(browser.logout)()
    await socket.assert_closed(1001)
    assert (await poll.answer())["status"] == 410
    again = await connect(UserSocket, headers=headers)  # the session is no more
    assert await denied(again, "members") == UNAUTHORIZED
    await again.close()


async def test_the_session_is_gone_before_its_sockets_can_come_back(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    key = browser.cookies[settings.SESSION_COOKIE_NAME].value
    found = []

    def disconnected(user: Any) -> None:
        found.append(Session.objects.filter(session_key=key).exists())

    monkeypatch.setattr(receivers, "disconnect_user", disconnected)
    await sync_to_async(browser.logout)()
    assert found == [False]


async def test_a_logout_on_the_loop_itself_closes_them_too(
    socket: TestSocket, ada: Any
) -> None:
    from django.contrib.auth.signals import user_logged_out

    user_logged_out.send(sender=type(ada), request=None, user=ada)
    await socket.assert_closed(1001)
    user_logged_out.send(sender=type(ada), request=None, user=None)


async def test_a_layer_that_is_down_does_not_fail_a_logout(
    ada: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(user: Any) -> None:
        raise BroadcastError("down")

    monkeypatch.setattr(receivers, "disconnect_user", fail)
    await database_sync_to_async(receivers.close_sockets_of, thread_sensitive=False)(
        None, ada
    )
    assert "may be open still: down" in caplog.text


async def test_a_new_password_closes_the_sockets_of_the_old_one(ada: Any) -> None:
    eve = await User.objects.acreate_user("eve")
    of_ada, of_eve = [await signed_in(await cookie_of(u)) for u in (ada, eve)]
    by_token = await connect(OfToken, auth_token=user_token(ada))
    ada.last_login = None
    await ada.asave(update_fields=["last_login"])
    ada.first_name = "Ada"
    await ada.asave()
    await of_ada.join("members")
    await change_password(ada)
    await of_ada.assert_closed(1001)
    await by_token.assert_closed(1001)
    await of_eve.join("members")
    await of_eve.close()


class Person(User):  # type: ignore[misc, valid-type]
    class Meta:
        proxy = True
        app_label = "tests_permissions"


async def test_a_proxy_of_the_user_model_has_a_new_password_as_well(ada: Any) -> None:
    of_ada = await signed_in(await cookie_of(ada))
    await change_password(await Person.objects.aget(pk=ada.pk))
    await of_ada.assert_closed(1001)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Collect the commands instead of sending them."""
    given: list[tuple[Any, ...]] = []
    for name in ("disconnect_user", "password_changed", "session_ended"):
        monkeypatch.setattr(
            receivers, name, lambda *args, name=name: given.append((name, *args))
        )
    return given


class OwnHash(User):  # type: ignore[misc, valid-type]
    class Meta:
        proxy = True
        app_label = "tests_permissions"

    def get_session_auth_hash(self) -> str:
        return "of another field"


@pytest.mark.parametrize(
    "model, fields, is_ordered",
    [
        (User, ["email"], False),
        (User, ["password"], True),
        (OwnHash, ["email"], True),
        (OwnHash, ["last_login"], False),
    ],
)
def test_saving_fields_that_let_nobody_in_costs_no_order(
    orders: list[Any], model: Any, fields: list[str], is_ordered: bool
) -> None:
    eve = User.objects.create_user("eve")
    model.objects.get(pk=eve.pk).save(update_fields=fields)
    assert bool(orders) == is_ordered


class Nameless:
    """A user of a model that has no password, and whose keys are no numbers."""

    pk = "a"


def test_a_user_model_without_a_password_can_be_saved(orders: list[Any]) -> None:
    receivers.close_sockets_of_password(Nameless, Nameless(), created=False)
    assert not orders


def test_a_login_without_a_session_is_none_of_ours(
    orders: list[Any], ada_in_a_thread: Any
) -> None:
    request = RequestFactory().get("/")
    request.COOKIES[settings.SESSION_COOKIE_NAME] = "of another site"
    user_logged_in.send(User, request=request, user=ada_in_a_thread)
    assert not orders


@pytest.fixture
def ada_in_a_thread() -> Any:
    return User.objects.create_user("ada")


@pytest.mark.parametrize("error", [ImproperlyConfigured, OperationalError])
def test_a_logout_needs_no_database(
    orders: list[Any], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error("no database")

    monkeypatch.setattr(receivers.transaction, "on_commit", fail)
    receivers.close_sockets_of(User, SimpleNamespace(pk=1))
    assert [name for name, *_ in orders] == ["disconnect_user"]


async def test_a_new_password_may_be_let_alone(ada: Any, settings: Any) -> None:
    settings.PHX_PROTOCOL = {"CLOSE_ON_PASSWORD_CHANGE": False}
    of_ada = await signed_in(await cookie_of(ada))
    await change_password(ada)
    await of_ada.join("open")
    await of_ada.close()


async def test_a_rotated_secret_is_no_new_password(ada: Any, settings: Any) -> None:
    cookie = await cookie_of(ada)
    of_ada = await signed_in(cookie)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    ada.first_name = "Ada"
    await ada.asave()
    await of_ada.join("members")
    await of_ada.close()


async def test_another_login_in_the_same_browser_closes_the_sockets_of_the_old_user(
    ada: Any,
) -> None:
    eve = await User.objects.acreate_user("eve")
    browser = DjangoClient()
    await sync_to_async(browser.force_login)(ada)
    name = settings.SESSION_COOKIE_NAME
    of_ada = await signed_in(f"{name}={browser.cookies[name].value}")
    elsewhere = await signed_in(await cookie_of(ada))

    def log_in_as_eve() -> None:
        request = RequestFactory().get("/")
        request.COOKIES[name] = browser.cookies[name].value
        request.session = session_store(browser.cookies[name].value)
        login(request, eve, "django.contrib.auth.backends.ModelBackend")

    await database_sync_to_async(log_in_as_eve, thread_sensitive=False)()
    await of_ada.assert_closed(1001)
    await elsewhere.join("members")
    await elsewhere.close()
