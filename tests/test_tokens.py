"""Signed tokens, and sockets whose user they name."""

from __future__ import annotations

import base64
import string
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.core.signing import BadSignature, SignatureExpired
from django.test import Client as Browser
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from phx_protocol import Channel, ConnectionRefused, PhoenixConsumer, Socket
from phx_protocol.testing import connect
from phx_protocol.tokens import TokenSocket, sign, user_of, user_token, verify

DAY = 86400
MESSAGE = "the token was not signed with this key and salt, or was changed"


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass for signatures."""
    clock = SimpleNamespace(now=float(int(time.time())))
    clock.time = lambda: clock.now
    monkeypatch.setattr(signing, "time", clock)

    def wait(seconds: float) -> None:
        clock.now += seconds

    return wait


# ------------------------------------------------------------------ sign and verify

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_verify_returns_the_signed_data(data: Any) -> None:
    assert verify(sign(data)) == data


@given(json_values, st.text())
def test_a_token_travels_as_a_subprotocol(data: Any, salt: str) -> None:
    token = sign(data, salt=salt)
    assert set(token) <= set(string.ascii_letters + string.digits + "_.:=-")
    # phoenix.js sends btoa(token); "/" may not stand in the name of a subprotocol
    assert "/" not in base64.b64encode(token.encode()).decode()


def test_a_token_is_good_for_a_day(wait: Callable[[float], None]) -> None:
    token = sign(42)
    wait(DAY)
    assert verify(token) == 42
    wait(1)
    with pytest.raises(SignatureExpired):
        verify(token)


def test_max_age_is_in_seconds_and_none_is_for_ever(
    wait: Callable[[float], None],
) -> None:
    token = sign(42)
    wait(61)
    assert verify(token, max_age=61) == 42
    with pytest.raises(SignatureExpired):
        verify(token, max_age=60)
    wait(100 * 365 * DAY)
    assert verify(token, max_age=None) == 42


@pytest.mark.parametrize("token", [None, 42, b"bytes", {"a": "b"}, ["a"]])
def test_a_value_that_is_not_a_string_is_no_token(token: Any) -> None:
    with pytest.raises(BadSignature, match="a token is a string, not"):
        verify(token)


@pytest.mark.parametrize("token", ["", "a", "a:b", "a:b:c", "é", "\udc80", "." * 5000])
def test_nonsense_is_no_token(token: str) -> None:
    with pytest.raises(BadSignature):
        verify(token)


@given(st.text())
def test_no_text_at_all_gets_past_but_as_a_bad_signature(token: str) -> None:
    with pytest.raises(BadSignature):
        verify(token)


def test_a_changed_token_is_bad_and_the_error_does_not_quote_it() -> None:
    token = sign({"user": 42})
    data, *rest = token.split(":")
    changed = base64.urlsafe_b64encode(b'{"user":43}').decode().rstrip("=")
    with pytest.raises(BadSignature) as bad:
        verify(":".join([changed, *rest]))
    assert str(bad.value) == MESSAGE
    assert rest[-1] not in str(bad.value)


def test_a_token_for_something_else_is_bad() -> None:
    with pytest.raises(BadSignature, match=MESSAGE):
        verify(sign(42, salt="a"), salt="b")
    with pytest.raises(BadSignature, match=MESSAGE):
        verify(signing.dumps(42))


def test_a_rotated_key_still_counts_until_it_is_dropped() -> None:
    token = sign(42)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        assert verify(token) == 42
    with override_settings(SECRET_KEY="new"), pytest.raises(BadSignature):
        verify(token)


def test_data_that_json_cannot_carry_is_not_signed() -> None:
    with pytest.raises(TypeError):
        sign(object())


# ----------------------------------------------------------------- tokens of users


@pytest.fixture
async def ada(transactional_db: None) -> User:
    return await User.objects.acreate(username="ada", password="a hash")


async def test_a_users_token_leads_back_to_the_user(ada: User) -> None:
    assert await user_of(user_token(ada)) == ada


async def test_a_users_token_does_not_show_the_session_hash(ada: User) -> None:
    assert ada.get_session_auth_hash() not in str(
        signing.loads(user_token(ada), salt="phx_protocol.user_token")
    )


async def test_a_users_token_grows_old(
    ada: User, wait: Callable[[float], None]
) -> None:
    token = user_token(ada)
    wait(DAY + 1)
    with pytest.raises(SignatureExpired):
        await user_of(token)
    assert await user_of(token, max_age=None) == ada


async def test_a_changed_password_ends_all_tokens(ada: User) -> None:
    token = user_token(ada)
    ada.set_password("new")
    await ada.asave()
    with pytest.raises(BadSignature, match="has changed the password"):
        await user_of(token)
    assert await user_of(user_token(ada)) == ada


async def test_a_rotated_secret_key_ends_no_token_but_a_dropped_one(ada: User) -> None:
    token = user_token(ada)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        assert await user_of(token) == ada
    with override_settings(SECRET_KEY="new"), pytest.raises(BadSignature):
        await user_of(token)


async def test_an_inactive_user_has_no_token(ada: User) -> None:
    token = user_token(ada)
    ada.is_active = False
    await ada.asave()
    with pytest.raises(BadSignature, match="is not active"):
        await user_of(token)


async def test_the_token_of_a_deleted_user_is_not_valid(ada: User) -> None:
    token = user_token(ada)
    await ada.adelete()
    with pytest.raises(BadSignature, match="does not exist"):
        await user_of(token)


async def test_a_primary_key_of_another_kind_is_nobodys(transactional_db: None) -> None:
    with pytest.raises(BadSignature, match="does not exist"):
        await user_of(sign(["no number", ""], salt="phx_protocol.user_token"))


async def test_any_other_signed_token_is_no_users(ada: User) -> None:
    with pytest.raises(BadSignature, match=MESSAGE):
        await user_of(sign([str(ada.pk), "0" * 16]))


@pytest.mark.parametrize("user", [AnonymousUser(), User(username="unsaved")])
def test_without_a_primary_key_there_is_no_token(user: Any) -> None:
    with pytest.raises(ValueError, match="no primary key"):
        user_token(user)


# -------------------------------------------------------------------------- sockets


class WhoChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"user": self.socket.user.get_username(), **self.params}


class WhoSocket(TokenSocket):
    channels = {"who": WhoChannel}


class OptionalSocket(WhoSocket):
    token_required = False


class ParameterSocket(WhoSocket):
    token_param = "auth"


class OptionalParameterSocket(OptionalSocket):
    token_param = "auth"


class NeedsNoMore(TokenSocket, Socket):
    channels = {"who": WhoChannel}


class Calls:
    """Notes the user that ``connect`` saw."""

    seen: list[str] = []


class CallsSuper(TokenSocket, Socket):
    channels = {"who": WhoChannel}

    async def connect(self, params: dict[str, Any]) -> None:
        await super().connect(params)
        Calls.seen.append(self.user.get_username())


class ForgetsSuper(WhoSocket):
    async def connect(self, params: dict[str, Any]) -> None:
        Calls.seen.append(self.user.get_username())


class Synchronous(WhoSocket):
    def connect(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        Calls.seen.append(self.user.get_username())


async def who(
    socket_class: type[Socket], auth_token: str | None = None, query: str = ""
) -> str | int:
    """Whom a socket with phoenix.js's ``authToken`` takes its client for, or how it refuses."""
    application = PhoenixConsumer.as_asgi(socket=socket_class)
    subprotocols = ["phoenix"]
    if auth_token is not None:
        encoded = base64.b64encode(auth_token.encode()).decode().rstrip("=")
        subprotocols.append(f"base64url.bearer.phx.{encoded}")
    communicator = WebsocketCommunicator(
        application, f"/socket/websocket?vsn=2.0.0&{query}", subprotocols=subprotocols
    )
    connected, close_code = await communicator.connect()
    if not connected:
        assert close_code == 1008  # which is 403 for the client
        return 403
    await communicator.send_json_to(["1", "1", "who", "phx_join", {}])
    reply = (await communicator.receive_json_from())[4]["response"]
    await communicator.disconnect()
    assert "auth" not in reply
    return str(reply["user"])


@pytest.mark.parametrize("socket_class", [WhoSocket, NeedsNoMore, OptionalSocket])
async def test_the_token_names_the_user(socket_class: type[Socket], ada: User) -> None:
    assert await who(socket_class, user_token(ada)) == "ada"


@pytest.mark.parametrize("socket_class", [CallsSuper, ForgetsSuper, Synchronous])
async def test_connect_sees_the_user_and_only_with_a_good_token(
    socket_class: type[Socket], ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calls, "seen", [])
    assert await who(socket_class) == 403
    assert await who(socket_class, "forged") == 403
    assert Calls.seen == []
    assert await who(socket_class, user_token(ada)) == "ada"
    assert Calls.seen == ["ada"]


async def test_a_token_wins_over_the_session(ada: User) -> None:
    grace = await User.objects.acreate(username="grace")
    socket = await connect(ParameterSocket, {"auth": user_token(ada)}, user=grace)
    assert (await socket.join("who")).reply == {"user": "ada", "vsn": "2.0.0"}
    await socket.close()


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda user: None, "there is no token"),
        (lambda user: "", "there is no token"),
        (lambda user: user_token(user) + "x", MESSAGE),
        (lambda user: "xyzzy:plugh:plover", MESSAGE),
        (lambda user: sign(user.pk), MESSAGE),
        (lambda user: signing.dumps([str(user.pk), ""]), MESSAGE),
        (lambda user: "ключ", "a token has ASCII characters only"),
    ],
    ids=["none", "empty", "changed", "forged", "of sign()", "foreign", "not ascii"],
)
async def test_a_bad_token_is_refused_with_a_line_that_does_not_show_it(
    make: Callable[[User], str | None],
    why: str,
    ada: User,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = make(ada)
    assert await who(WhoSocket, token) == 403
    (record,) = (r for r in caplog.records if r.name.startswith("phx_protocol"))
    assert (record.name, record.levelname) == ("phx_protocol.socket", "WARNING")
    assert record.getMessage() == f"WhoSocket: refused with 403: {why}"
    for part in (token or "").split(":"):
        assert not part or part not in caplog.text


async def test_a_token_that_is_too_old_is_refused(
    ada: User, wait: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    class BriefSocket(WhoSocket):
        token_max_age = 60

    token = user_token(ada)
    wait(60)
    assert await who(BriefSocket, token) == "ada"
    wait(1)
    assert await who(BriefSocket, token) == 403
    assert "Signature age 61.0 > 60 seconds" in caplog.text


async def test_who_comes_with_a_bad_token_again_and_again_is_told_to_stay_away(
    ada: User,
) -> None:
    async def code(token: str, address: str = "10.0.0.1") -> int:
        """How it ends: refused with 403, or opened and closed with a code."""
        encoded = base64.b64encode(token.encode()).decode().rstrip("=")
        communicator = WebsocketCommunicator(
            PhoenixConsumer.as_asgi(socket=WhoSocket),
            "/socket/websocket?vsn=2.0.0",
            subprotocols=["phoenix", f"base64url.bearer.phx.{encoded}"],
        )
        communicator.scope["client"] = [address, 1]
        connected, subprotocol = await communicator.connect()
        if not connected:
            return 403
        assert subprotocol == "phoenix"  # or a browser would not hear the code
        closed = await communicator.receive_output()
        return int(closed["code"])

    bad = user_token(ada) + "x"
    assert [await code(bad) for _ in range(4)] == [403, 403, 4403, 4403]
    assert [await code(f"{bad}{n}") for n in range(3)] == [403, 403, 403]
    assert await code(bad, "10.0.0.2") == 403
    assert await who(WhoSocket, user_token(ada)) == "ada"


async def test_without_a_required_token_the_user_is_that_of_the_socket(
    ada: User,
) -> None:
    assert await who(OptionalSocket) == ""
    assert await who(OptionalSocket, "") == ""
    assert await who(OptionalParameterSocket, query="auth=") == ""
    socket = await connect(OptionalSocket, user=ada)
    assert (await socket.join("who")).reply["user"] == "ada"
    await socket.close()


async def test_a_bad_token_is_refused_even_where_none_is_required() -> None:
    assert await who(OptionalSocket, "forged") == 403


async def test_a_parameter_is_read_only_where_it_is_named(ada: User) -> None:
    assert await who(ParameterSocket, query=f"auth={user_token(ada)}") == "ada"
    assert await who(WhoSocket, query=f"auth={user_token(ada)}") == 403


async def test_the_auth_token_comes_before_the_parameter(ada: User) -> None:
    assert await who(ParameterSocket, user_token(ada), "auth=forged") == "ada"
    assert await who(ParameterSocket, "forged", f"auth={user_token(ada)}") == 403


@pytest.mark.parametrize("query", ["auth=", "auth[a]=b", "auth[]=a", "auth=forged"])
async def test_a_parameter_that_is_no_token_is_refused(query: str) -> None:
    assert await who(ParameterSocket, query=query) == 403


async def test_the_parameter_is_not_logged_whatever_its_name(
    ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    token = user_token(ada)
    assert await who(ParameterSocket, query=f"auth={token}") == "ada"
    assert "CONNECTED TO ParameterSocket" in caplog.text and token not in caplog.text


async def test_connect_may_still_refuse_a_good_token(ada: User) -> None:
    class Closed(ParameterSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            raise ConnectionRefused(429, f"not {self.user.get_username()}")

    with pytest.raises(ConnectionRefused) as refused:
        await connect(Closed, {"auth": user_token(ada)})
    assert (refused.value.status, refused.value.reason) == (429, "not ada")


# ------------------------------------------------------- tokens that end with a session


async def signed_in(user: User) -> Browser:
    browser = Browser()
    await sync_to_async(browser.force_login)(user)
    return browser


def cookie(browser: Browser) -> dict[str, str]:
    name = settings.SESSION_COOKIE_NAME
    return (
        {"cookie": f"{name}={browser.cookies[name].value}"}
        if name in browser.cookies
        else {}
    )


async def test_a_token_of_a_session_counts_with_its_cookie_until_the_logout(
    ada: User,
) -> None:
    browser, other = await signed_in(ada), await signed_in(ada)
    token = user_token(ada, browser.session)
    headers = cookie(browser)
    socket = await connect(WhoSocket, auth_token=token, headers=headers)
    assert (await socket.join("who")).reply["user"] == "ada"
    await socket.close()
    for wrong in ({}, cookie(other), {"cookie": "sessionid=none"}):
        with pytest.raises(ConnectionRefused):
            await connect(WhoSocket, auth_token=token, headers=wrong)
    await sync_to_async(browser.logout)()
    with pytest.raises(ConnectionRefused):  # the cookie may have been copied
        await connect(WhoSocket, auth_token=token, headers=headers)


async def test_after_the_logout_an_optional_token_is_as_good_as_none(ada: User) -> None:
    browser = await signed_in(ada)
    token = user_token(ada, browser.session)
    await sync_to_async(browser.logout)()
    socket = await connect(OptionalSocket, auth_token=token)
    assert (await socket.join("who")).reply["user"] == ""
    await socket.close()
    with pytest.raises(ConnectionRefused):
        await connect(OptionalSocket, auth_token=token + "x")
