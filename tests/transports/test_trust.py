"""A session's user counts only when the page is known to be ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.middleware.csrf import (  # what Django puts into the cookie
    _get_new_csrf_string,
)
from django.test import Client, override_settings

from phx_protocol import Channel, ConnectionRefused, Socket
from phx_protocol.testing import connect
from tests.transports.longpoll import Client as LongPollClient

pytestmark = pytest.mark.django_db(transaction=True)


class WhoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {
            "user": self.socket.user.get_username(),
            "token": self.socket.auth_token,
        }


class WhoSocket(Socket):
    channels = {"who": WhoChannel}
    longpoll = True


class UncheckedSocket(WhoSocket):
    check_origin = False


@pytest.fixture
async def cookie() -> str:
    def sign_in() -> str:
        client = Client()
        client.force_login(User.objects.create_user("ada"))
        return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"

    return await sync_to_async(sign_in)()


Who = Callable[[type[Socket], dict[str, Any], dict[str, str]], Awaitable[str]]


async def over_websocket(
    socket_class: type[Socket], params: dict[str, Any], headers: dict[str, str]
) -> str:
    headers = {"host": "testserver", **headers}
    socket = await connect(socket_class, params, headers=headers)
    answer = (await socket.join("who")).reply["user"]
    await socket.close()
    return str(answer)


async def over_longpoll(
    socket_class: type[Socket], params: dict[str, Any], headers: dict[str, str]
) -> str:
    client = LongPollClient(socket_class, params, headers)
    answer = await client.open()
    if answer["status"] != 410:
        raise ConnectionRefused(answer["status"])
    return str((await client.join("who"))["response"]["user"])


@pytest.fixture(params=[over_websocket, over_longpoll])
def who(request: pytest.FixtureRequest) -> Who:
    """Whom a request with these headers is taken for."""
    return request.param  # type: ignore[no-any-return]


async def test_a_cookie_alone_is_an_anonymous_visitor(who: Who, cookie: str) -> None:
    assert await who(WhoSocket, {}, {"cookie": cookie}) == ""


async def test_a_checked_origin_makes_the_session_count(who: Who, cookie: str) -> None:
    headers = {"cookie": cookie, "origin": "http://testserver"}
    assert await who(WhoSocket, {}, headers) == "ada"


async def test_an_origin_that_nobody_checked_does_not(who: Who, cookie: str) -> None:
    headers = {"cookie": cookie, "origin": "http://testserver"}
    assert await who(UncheckedSocket, {}, headers) == ""


async def test_a_same_origin_fetch_makes_the_session_count(
    who: Who, cookie: str
) -> None:
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    assert await who(UncheckedSocket, {}, headers) == "ada"


async def test_a_csrf_token_makes_the_session_count_and_a_wrong_one_does_not(
    who: Who, cookie: str
) -> None:
    secret = _get_new_csrf_string()
    headers = {"cookie": f"{cookie}; {settings.CSRF_COOKIE_NAME}={secret}"}
    assert await who(UncheckedSocket, {"_csrf_token": secret}, headers) == "ada"
    wrong = _get_new_csrf_string()
    assert await who(UncheckedSocket, {"_csrf_token": wrong}, headers) == ""
    assert await who(UncheckedSocket, {"_csrf_token": "short"}, headers) == ""


async def test_a_new_secret_key_signs_nobody_out_as_long_as_the_old_one_is_a_fallback(
    who: Who, cookie: str
) -> None:
    headers = {"cookie": cookie, "origin": "http://testserver"}
    old = settings.SECRET_KEY
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", old]):
        assert await who(WhoSocket, {}, headers) == "ada"
        assert await who(WhoSocket, {}, headers) == "ada"
    with override_settings(SECRET_KEY="new"):
        assert await who(WhoSocket, {}, headers) == ""
    # it is for a page to end a session, which can take the cookie back
    assert await Session.objects.acount() == 1


async def test_another_origin_is_refused(who: Who, cookie: str) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await who(WhoSocket, {}, {"cookie": cookie, "origin": "http://evil.test"})
    assert refused.value.status == 403


async def test_a_user_that_a_middleware_set_stays() -> None:
    user = User(username="by token")
    socket = await connect(WhoSocket, user=user)
    assert (await socket.join("who")).reply["user"] == "by token"
    await socket.close()
