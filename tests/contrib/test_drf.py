"""The authentication classes of the real Django REST framework."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client as Browser
from rest_framework.authentication import (
    BaseAuthentication,
    BasicAuthentication,
    SessionAuthentication,
)
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import AccessToken

from phx_protocol import Channel, ConnectionRefused, areauthorize
from phx_protocol.auth.credentials import Claim, Credential
from phx_protocol.contrib.drf import DRFSocket
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket, connect

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning"),
    pytest.mark.usefixtures("_fast_passwords"),
]
OWN, FOREIGN = "http://testserver", "http://evil.example"
SCOPE = {"type": "websocket", "path": "/", "headers": [(b"host", b"testserver")]}


class WhoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"user": self.socket.user.get_username()}

    async def authorize(self) -> bool:
        return self.socket.user.is_authenticated or not self.socket.token_required


class WhoSocket(DRFSocket):
    channels = {"who": WhoChannel}
    check_origin = ["//testserver", "//*.example"]
    authentication_classes = [
        SessionAuthentication,
        BasicAuthentication,
        "rest_framework.authentication.TokenAuthentication",
        JWTAuthentication,
    ]


class AnybodySocket(WhoSocket):
    token_required = False


class CookieAuthentication(BaseAuthentication):
    """A token in a cookie, as dj-rest-auth has it."""

    def authenticate(self, request: Any) -> Any:
        name = request.COOKIES.get("who")
        if name == "nobody":
            raise AuthenticationFailed("nobody is nobody")
        return (User.objects.get(username=name), None) if name else None


class CookieSocket(WhoSocket):
    authentication_classes = [CookieAuthentication]


@pytest.fixture
def _fast_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada", password="secret")


@pytest.fixture
def session(ada: User) -> str:
    browser = Browser()
    browser.force_login(ada)
    return browser.cookies["sessionid"].value


def basic(name: str = "ada", password: str = "secret") -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


async def who(socket: TestSocket) -> Any:
    name = (await socket.join("who")).reply["user"]
    await socket.close()
    return name


async def came(kind: Any = WhoSocket, token: str | None = None, **headers: str) -> Any:
    """The name of who connects with these headers."""
    given = {"host": "testserver"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await who(await connect(kind, auth_token=token, headers=given))


async def is_refused(*args: Any, **headers: str) -> bool:
    try:
        await came(*args, **headers)
    except ConnectionRefused as error:
        return error.status == 403
    return False


# ---------------------------------------------------------------------------- with a token


@pytest.mark.parametrize("kind", ["token", "jwt", "basic"])
@pytest.mark.parametrize("origin", [OWN, FOREIGN])
async def test_a_token_is_read_by_the_class_whose_it_is(
    ada: User, kind: str, origin: str
) -> None:
    tokens = {
        "token": (await Token.objects.acreate(user=ada)).key,
        "jwt": str(AccessToken.for_user(ada)),
        "basic": basic(),
    }
    assert await came(WhoSocket, tokens[kind], origin=origin) == "ada"


@pytest.mark.parametrize(
    "token", ["nonsense", basic(password="wrong"), "a b", "é", "€", "\x00", "a\nb"]
)
async def test_a_token_that_no_class_knows_is_refused(
    ada: User, session: str, token: str
) -> None:
    cookie = f"sessionid={session}"
    assert await is_refused(WhoSocket, token)
    assert await is_refused(WhoSocket, token, origin=OWN, cookie=cookie)
    assert await is_refused(AnybodySocket, token)


async def test_of_jwts_the_end_and_the_id_are_known(ada: User) -> None:
    token = AccessToken.for_user(ada)
    credential = await WhoSocket(dict(SCOPE)).read_token(str(token))
    assert credential.expires_at == token["exp"]
    assert (credential.id, credential.issued_at) == (token["jti"], token["iat"])
    key = (await Token.objects.acreate(user=ada)).key
    assert (await WhoSocket(dict(SCOPE)).read_token(key)).expires_at is None


@pytest.mark.parametrize("spelled", ["%s ", " %s", "\t%s\n", "%s\r"])
async def test_a_token_is_spelled_in_one_way(ada: User, spelled: str) -> None:
    """So that it cannot be revoked under one name and read under another."""
    for token in (
        (await Token.objects.acreate(user=ada)).key,
        str(AccessToken.for_user(ada)),
    ):
        assert await came(WhoSocket, token) == "ada"
        assert await is_refused(WhoSocket, spelled % token)


async def test_of_tokens_of_the_framework_it_is_known_when_they_were_made(
    ada: User,
) -> None:
    token = await Token.objects.acreate(user=ada)
    credential = await WhoSocket(dict(SCOPE)).read_token(token.key)
    assert credential.issued_at == token.created.timestamp()


async def test_a_token_in_a_cookie_ends_and_can_be_revoked_as_any_other(
    ada: User,
) -> None:
    class JWTCookie(JWTAuthentication):  # type: ignore[misc]
        def get_header(self, request: Any) -> Any:
            raw = request.COOKIES.get("jwt")
            return raw and f"Bearer {raw}".encode()

    class JWTCookieSocket(WhoSocket):
        authentication_classes = [JWTCookie]

    token = AccessToken.for_user(ada)
    headers = {"host": "testserver", "origin": OWN, "cookie": f"jwt={token}"}
    socket = await connect(JWTCookieSocket, headers=headers)
    (connection,) = get_node().connections
    assert connection.socket.expires_at == token["exp"]
    assert connection.claim == Claim.of(
        str(token), Credential(ada, id=token["jti"], issued_at=token["iat"])
    )
    assert await who(socket) == "ada"


async def test_a_token_that_was_deleted_names_nobody_any_more(ada: User) -> None:
    token = await Token.objects.acreate(user=ada)
    socket = await connect(WhoSocket, auth_token=token.key)
    channel = await socket.join("who")
    await areauthorize(user=ada)
    await token.adelete()
    await areauthorize(user=ada)
    await channel.assert_ended()
    await socket.close()


# ------------------------------------------------------------------------- without a token


async def test_a_session_counts_on_our_own_pages(session: str) -> None:
    cookie = f"sessionid={session}"
    assert await came(origin=OWN, cookie=cookie) == "ada"
    assert await came(sec_fetch_site="same-origin", cookie=cookie) == "ada"


@pytest.mark.parametrize("kind", [WhoSocket, AnybodySocket])
@pytest.mark.parametrize("credentials", ["session", "basic", "token"])
async def test_a_foreign_page_gets_nothing_of_what_the_browser_sends(
    ada: User, session: str, credentials: str, kind: Any
) -> None:
    key = (await Token.objects.acreate(user=ada)).key
    header = {
        "session": {"cookie": f"sessionid={session}"},
        "basic": {"authorization": f"Basic {basic()}"},
        "token": {"authorization": f"Token {key}"},
    }[credentials]

    class Anywhere(kind):  # type: ignore[misc]
        check_origin = False

    for where in ({"origin": FOREIGN}, {"origin": "null"}, {}):
        if kind is WhoSocket:
            assert await is_refused(Anywhere, **where, **header)
        else:
            assert await came(Anywhere, **where, **header) == ""


async def test_cookies_count_where_the_page_may_use_them(ada: User) -> None:
    assert await came(CookieSocket, origin=OWN, cookie="who=ada") == "ada"
    assert await is_refused(CookieSocket, None, origin=OWN, cookie="who=nobody")
    assert await is_refused(CookieSocket, None, cookie="who=ada")


async def test_the_classes_of_the_site_are_the_default(
    settings: Any, ada: User, session: str
) -> None:
    class DefaultSocket(WhoSocket):
        authentication_classes = None

    cookie, key = f"sessionid={session}", (await Token.objects.acreate(user=ada)).key
    assert await came(DefaultSocket, origin=OWN, cookie=cookie) == "ada"
    assert await is_refused(DefaultSocket, key)
    name = "rest_framework.authentication.TokenAuthentication"
    settings.REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [name]}
    assert await came(DefaultSocket, key) == "ada"
    assert await is_refused(DefaultSocket, None, origin=OWN, cookie=cookie)


async def test_who_is_known_to_no_class_is_anonymous_if_the_socket_allows_it() -> None:
    assert await came(AnybodySocket) == AnonymousUser().get_username()
    assert await is_refused(WhoSocket)
