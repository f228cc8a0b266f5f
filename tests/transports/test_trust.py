"""A session's user counts only when the page is known to be ours."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.middleware.csrf import (  # what Django puts into the cookie
    _get_new_csrf_string,
)
from django.test import Client

from phx_protocol import Channel, ConnectionRefused, Socket
from phx_protocol.testing import connect

pytestmark = pytest.mark.django_db(transaction=True)


class WhoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {
            "user": self.socket.user.get_username(),
            "token": self.socket.auth_token,
        }


class WhoSocket(Socket):
    channels = {"who": WhoChannel}


class UncheckedSocket(WhoSocket):
    check_origin = False


@pytest.fixture
async def cookie() -> str:
    def sign_in() -> str:
        client = Client()
        client.force_login(User.objects.create_user("ada"))
        return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"

    return await sync_to_async(sign_in)()


async def who(
    socket_class: type[Socket], params: dict[str, Any], headers: dict[str, str]
) -> str:
    socket = await connect(
        socket_class, params, headers={"host": "testserver", **headers}
    )
    answer = (await socket.join("who")).reply["user"]
    await socket.close()
    return str(answer)


async def test_a_cookie_alone_is_an_anonymous_visitor(cookie: str) -> None:
    assert await who(WhoSocket, {}, {"cookie": cookie}) == ""


async def test_a_checked_origin_makes_the_session_count(cookie: str) -> None:
    headers = {"cookie": cookie, "origin": "http://testserver"}
    assert await who(WhoSocket, {}, headers) == "ada"


async def test_an_origin_that_nobody_checked_does_not(cookie: str) -> None:
    headers = {"cookie": cookie, "origin": "http://testserver"}
    assert await who(UncheckedSocket, {}, headers) == ""


async def test_a_same_origin_fetch_makes_the_session_count(cookie: str) -> None:
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    assert await who(UncheckedSocket, {}, headers) == "ada"


async def test_a_csrf_token_makes_the_session_count_and_a_wrong_one_does_not(
    cookie: str,
) -> None:
    secret = _get_new_csrf_string()
    headers = {"cookie": f"{cookie}; {settings.CSRF_COOKIE_NAME}={secret}"}
    assert await who(UncheckedSocket, {"_csrf_token": secret}, headers) == "ada"
    wrong = _get_new_csrf_string()
    assert await who(UncheckedSocket, {"_csrf_token": wrong}, headers) == ""
    assert await who(UncheckedSocket, {"_csrf_token": "short"}, headers) == ""


async def test_another_origin_is_refused(cookie: str) -> None:
    with pytest.raises(ConnectionRefused) as refused:
        await who(WhoSocket, {}, {"cookie": cookie, "origin": "http://evil.test"})
    assert refused.value.status == 403


async def test_a_user_that_a_middleware_set_stays() -> None:
    user = User(username="by token")
    socket = await connect(WhoSocket, user=user)
    assert (await socket.join("who")).reply["user"] == "by token"
    await socket.close()
