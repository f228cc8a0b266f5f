"""Access tokens of the real djangorestframework-simplejwt."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signing import BadSignature
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from phx_protocol import Channel, ConnectionRefused, areauthorize, event
from phx_protocol.contrib.simplejwt import SimpleJWTSocket
from phx_protocol.testing import connect
from phx_protocol.wire.reasons import CloseCode

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning"),
]


class WhoChannel(Channel):
    login_required = True

    async def join(self, payload: Any) -> Any:
        return "ok", {"user": self.socket.user.pk}

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload


class UserSocket(SimpleJWTSocket):
    channels = {"who": WhoChannel}


class StatelessSocket(UserSocket):
    authentication_class = (
        "rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"
    )


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada")


async def test_an_access_token_names_the_user_until_it_ends(ada: User) -> None:
    token = AccessToken.for_user(ada)
    credential = await UserSocket({}).read_token(str(token))
    assert credential.user == ada
    assert credential.expires_at == pytest.approx(time.time() + 300, abs=2)
    assert credential.id == token["jti"] and credential.issued_at == token["iat"]
    socket = await connect(UserSocket, auth_token=str(token))
    assert (await socket.join("who")).reply == {"user": ada.pk}
    await socket.close()


async def test_the_connection_ends_with_its_token(ada: User) -> None:
    token = AccessToken.for_user(ada)
    token.set_exp(lifetime=timedelta(seconds=1.5))
    socket = await connect(UserSocket, auth_token=str(token))
    await socket.assert_closed(CloseCode.EXPIRED)


async def test_a_users_token_needs_no_database_if_the_site_says_so(ada: User) -> None:
    token = str(AccessToken.for_user(ada))
    await ada.adelete()
    credential = await StatelessSocket({}).read_token(token)
    assert str(credential.user.pk) == str(credential.user.id) != ""
    socket = await connect(StatelessSocket, auth_token=token)
    await socket.close()


@pytest.mark.parametrize("leeway", [10, timedelta(seconds=10)])
async def test_the_leeway_of_the_site_counts(
    ada: User, monkeypatch: pytest.MonkeyPatch, leeway: Any
) -> None:
    monkeypatch.setattr(api_settings, "LEEWAY", leeway)
    token = AccessToken.for_user(ada)
    credential = await UserSocket({}).read_token(str(token))
    assert credential.expires_at == token["exp"] + 10


@pytest.mark.parametrize("why", ["refresh", "ended", "forged", "inactive", "deleted"])
async def test_any_other_token_is_refused(ada: User, why: str) -> None:
    token: Any = AccessToken.for_user(ada)
    if why == "refresh":
        token = RefreshToken.for_user(ada)
    elif why == "ended":
        token.set_exp(lifetime=timedelta(seconds=-1))
    elif why == "inactive":
        await User.objects.aupdate(is_active=False)
    elif why == "deleted":
        await ada.adelete()
    text = str(token)[: -3 if why == "forged" else None]
    with pytest.raises(BadSignature, match="not a valid token of simplejwt: .*[a-z]"):
        await UserSocket({}).read_token(text)
    with pytest.raises(ConnectionRefused):
        await connect(UserSocket, auth_token=text)


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "new"}])
async def test_a_change_of_the_user_is_found_by_the_next_look(
    ada: User, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(api_settings, "CHECK_REVOKE_TOKEN", True)
    socket = await connect(UserSocket, auth_token=str(AccessToken.for_user(ada)))
    who = await socket.join("who")
    await areauthorize(user=ada)
    await who.assert_reply(await who.push("echo"), "ok")
    await User.objects.aupdate(**change)
    await areauthorize(user=ada)
    await who.assert_ended()
    await socket.close()
