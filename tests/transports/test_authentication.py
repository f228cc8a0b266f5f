"""A session's user counts only when the page is known to be ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.sessions import SessionMiddlewareStack
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.middleware.csrf import (  # what Django puts into the cookie
    CSRF_SESSION_KEY,
    _get_new_csrf_string,
)
from django.test import Client, override_settings

from phx_protocol import Channel, ConnectionRefused, PhoenixConsumer, Socket
from phx_protocol.auth.sessions import session_store
from phx_protocol.testing import connect
from tests.support.asgi_poll_client import Client as LongPollClient

pytestmark = pytest.mark.django_db(transaction=True)


APP = "capacitor://localhost"


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


FOREIGN = [
    {"origin": "https://evil.test"},
    {"origin": "http://sibling.testserver"},
    {"origin": "null"},
    {"origin": ""},
]


@pytest.mark.parametrize("page", FOREIGN)
async def test_a_csrf_token_counts_only_from_a_page_of_which_django_would_take_a_post(
    who: Who, cookie: str, page: dict[str, str]
) -> None:
    # who may set a cookie for the parent domain knows what is in it
    secret = _get_new_csrf_string()
    headers = {"cookie": f"{cookie}; {settings.CSRF_COOKIE_NAME}={secret}"}
    params = {"_csrf_token": secret}
    assert await who(UncheckedSocket, params, {**headers, **page}) == ""
    own = {"origin": "http://testserver"}
    assert await who(UncheckedSocket, params, {**headers, **own}) == "ada"
    trusted = {"origin": "https://app.testserver"}
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://app.testserver"]):
        assert await who(UncheckedSocket, params, {**headers, **trusted}) == "ada"


@pytest.mark.parametrize(
    "referer, user",
    [
        (None, ""),
        ("https://evil.test/", ""),
        ("http://testserver/", ""),
        ("https://testserver/room/1", "ada"),
    ],
)
@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
async def test_over_https_a_csrf_token_without_an_origin_needs_the_referer(
    who: Who, cookie: str, referer: str | None, user: str
) -> None:
    secret = _get_new_csrf_string()
    headers = {
        "cookie": f"{cookie}; {settings.CSRF_COOKIE_NAME}={secret}",
        "x-forwarded-proto": "https",
    }
    if referer is not None:
        headers["referer"] = referer
    assert await who(UncheckedSocket, {"_csrf_token": secret}, headers) == user


@override_settings(CSRF_USE_SESSIONS=True)
async def test_a_csrf_token_of_the_session_is_checked_against_the_session(
    who: Who, cookie: str
) -> None:
    secret, another = _get_new_csrf_string(), _get_new_csrf_string()
    headers = {"cookie": f"{cookie}; {settings.CSRF_COOKIE_NAME}={another}"}
    assert await who(UncheckedSocket, {"_csrf_token": another}, headers) == ""
    session = session_store(cookie.partition("=")[2])
    await session.aset(CSRF_SESSION_KEY, secret)
    await session.asave()
    assert await who(UncheckedSocket, {"_csrf_token": another}, headers) == ""
    assert await who(UncheckedSocket, {"_csrf_token": secret}, headers) == "ada"


@pytest.mark.parametrize(
    "referer, user",
    [
        ("http://testserver/room/1?a=b", "ada"),
        ("http://TESTSERVER:80", "ada"),
        ("https://trusted.test/", "ada"),
        ("http://testserver.evil.test/", ""),
        ("http://evil.test/http://testserver/", ""),
        ("http://testserver@evil.test/", ""),
        ("about:blank", ""),
        ("", ""),
        ("http://[", ""),
    ],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["https://trusted.test"])
async def test_without_an_origin_the_referer_says_which_page_asks(
    who: Who, cookie: str, referer: str, user: str
) -> None:
    headers = {"cookie": cookie, "referer": referer}
    assert await who(WhoSocket, {}, headers) == user
    assert await who(UncheckedSocket, {}, headers) == ""


async def test_an_origin_is_not_overruled_by_a_referer(who: Who, cookie: str) -> None:
    headers = {"cookie": cookie, "referer": "http://testserver/", "origin": "null"}
    with pytest.raises(ConnectionRefused):
        await who(WhoSocket, {}, headers)
    assert await who(UncheckedSocket, {}, headers) == ""


@pytest.mark.parametrize("origin, user", [("null", ""), ("file://", ""), (APP, "ada")])
async def test_an_origin_of_many_pages_is_let_in_and_its_session_does_not_count(
    who: Who, cookie: str, origin: str, user: str
) -> None:
    class Listed(WhoSocket):
        check_origin = ["null", "file://", APP]

    assert await who(Listed, {}, {"cookie": cookie, "origin": origin}) == user


class Peek(Socket):
    """Keeps what users see of a connection."""

    longpoll = True
    check_origin = False
    seen: list[dict[str, Any]] = []

    async def connect(self, params: dict[str, Any]) -> None:
        self.seen.append(self.scope)


async def within(
    middleware: Any,
    headers: dict[str, str],
    query: str = "",
    *more: tuple[bytes, bytes],
) -> dict[str, Any]:
    """Return the scope that user code sees behind `middleware`."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"host", b"testserver"), *more]
    application = middleware(PhoenixConsumer.as_asgi(socket=Peek))
    line = WebsocketCommunicator(application, f"/socket/websocket?{query}", raw)
    assert (await line.connect())[0]
    await line.disconnect()
    return Peek.seen.pop()


class ByToken:
    """A middleware whose user is not the session's."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope = {**scope, "user": User(username="by token")}
        await self.inner(scope, receive, send)


STACKS: list[Any] = [
    AuthMiddlewareStack,
    SessionMiddlewareStack,
    lambda inner: AuthMiddlewareStack(ByToken(inner)),
]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("page", [{}, {"origin": "https://evil.test"}])
async def test_an_untrusted_request_has_no_session_of_a_middleware_either(
    cookie: str, stack: Any, page: dict[str, str]
) -> None:
    headers = {"cookie": f"{cookie}; theme=dark", **page}
    scope = await within(stack, headers)
    assert scope["user"].get_username() in ("", "by token")
    assert await scope["session"].aget("_auth_user_id") is None
    assert scope["session"].session_key is None
    assert scope["cookies"] == {"theme": "dark"}
    # the session itself is as it was
    session = session_store(cookie.partition("=")[2])
    assert await session.aget("_auth_user_id") is not None


async def test_of_several_session_cookies_none_leaves_its_session_behind(
    cookie: str,
) -> None:
    # Channels takes the first header, Django the last value
    another = f"{settings.SESSION_COOKIE_NAME}=0123456789abcdef"
    more = (b"cookie", another.encode())
    scope = await within(AuthMiddlewareStack, {"cookie": cookie}, "", more)
    assert scope["session"].session_key is None
    assert await scope["session"].aget("_auth_user_id") is None


@pytest.mark.parametrize("stack", STACKS)
async def test_a_trusted_request_has_the_session(cookie: str, stack: Any) -> None:
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    scope = await within(stack, headers)
    assert scope["user"].get_username() in ("ada", "by token")
    assert await scope["session"].aget("_auth_user_id") is not None
    assert cookie.partition("=")[2] in scope["cookies"].values()


async def test_cookies_may_be_split_over_several_headers(cookie: str) -> None:
    secret = _get_new_csrf_string()
    headers = {"origin": "http://testserver", "cookie": "theme=dark"}
    more = [cookie, f"{settings.CSRF_COOKIE_NAME}={secret}"]
    scope = await within(
        lambda inner: inner,
        headers,
        f"_csrf_token={secret}",
        *((b"cookie", value.encode()) for value in more),
    )
    assert scope["user"].get_username() == "ada"


async def test_a_session_that_a_middleware_found_by_its_own_means_stays(
    cookie: str,
) -> None:
    def stack(inner: Any) -> Any:
        async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await inner({**scope, "session": {"device": 7}}, receive, send)

        return application

    scope = await within(stack, {"cookie": cookie})
    assert scope["session"] == {"device": 7}


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
