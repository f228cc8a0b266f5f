"""The user of a session; reading it does not change the session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from django.utils.functional import SimpleLazyObject

from phx_protocol.auth.sessions import session_store, session_user

pytestmark = pytest.mark.django_db(transaction=True)
BACKENDS = "django.contrib.sessions.backends"
ROTATED = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": [settings.SECRET_KEY]}


@pytest.fixture(
    params=["db", "cached_db", "cache", "file", "signed_cookies"], autouse=True
)
def engine(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> str:
    settings.SESSION_ENGINE = f"{BACKENDS}.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return str(request.param)


def signed_in() -> Any:
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    return session_store(client.cookies[settings.SESSION_COOKIE_NAME].value)


async def test_a_session_names_its_user() -> None:
    session = await sync_to_async(signed_in)()
    assert (await session_user(session)).username == "ada"
    assert (await session_user(SimpleLazyObject(lambda: session))).username == "ada"


async def test_no_session_names_nobody() -> None:
    assert (await session_user(None)).is_anonymous
    assert (await session_user(session_store())).is_anonymous
    assert (await session_user(session_store("0123456789abcdef"))).is_anonymous


async def test_a_session_that_has_ended_since_it_was_read_names_nobody(
    engine: str,
) -> None:
    if engine == "signed_cookies":
        pytest.skip("only the client has it")
    session = await sync_to_async(signed_in)()
    assert await session.aget("_auth_user_id")
    await session_store(session.session_key).adelete()
    assert (await session_user(session)).is_anonymous


async def test_a_session_of_another_password_names_nobody_and_is_left_alone(
    engine: str,
) -> None:
    session = await sync_to_async(signed_in)()
    user = await session_user(session)
    user.set_password("another")
    await user.asave()
    assert (await session_user(session)).is_anonymous
    assert await session_store(session.session_key).aget("_auth_user_id")


async def test_a_user_who_may_no_longer_log_in_is_anonymous() -> None:
    session = await sync_to_async(signed_in)()
    await User.objects.aupdate(is_active=False)
    assert (await session_user(session)).is_anonymous
    await User.objects.all().adelete()
    assert (await session_user(session)).is_anonymous


async def test_a_session_of_a_backend_that_is_gone_names_nobody() -> None:
    session = await sync_to_async(signed_in)()
    with override_settings(AUTHENTICATION_BACKENDS=["another.Backend"]):
        assert (await session_user(session)).is_anonymous


async def test_a_session_outlives_a_new_secret_key_as_long_as_the_old_one_is_a_fallback() -> (
    None
):
    session = await sync_to_async(signed_in)()
    with override_settings(**ROTATED):
        assert (await session_user(session)).username == "ada"
        assert (await session_user(session)).username == "ada"
    assert (await session_user(session)).username == "ada"
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["another"]):
        assert (await session_user(session)).is_anonymous


async def test_looking_writes_nothing(settings: Any) -> None:
    settings.SESSION_ENGINE = f"{BACKENDS}.db"
    session = await sync_to_async(signed_in)()
    before = [row async for row in Session.objects.values()]
    for key in (ROTATED, {"SECRET_KEY": "new"}):
        with override_settings(**key):
            await session_user(session)
    assert [row async for row in Session.objects.values()] == before
