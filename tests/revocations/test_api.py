"""revoke() as a site calls it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from phx_protocol import BroadcastError, ConnectionRefused
from phx_protocol.revocations import api, arevoke, revoke
from phx_protocol.revocations.models import Revocation
from phx_protocol.testing import connect
from phx_protocol.tokens import TokenSocket, user_token
from phx_protocol.wire.reasons import CloseCode
from tests.revocations.sockets import NamedSocket, RoomChannel

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = 3600, 86400


class UserSocket(TokenSocket):
    channels = {"room:*": RoomChannel}


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada")


def jwt(**payload: Any) -> str:
    parts = [{"alg": "HS256"}, payload]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts]
    return ".".join([*(e.rstrip("=") for e in encoded), "c2lnbmF0dXJl"])


def end() -> float | None:
    """When the only row is deleted."""
    return Revocation.objects.get().expires_at


@pytest.mark.parametrize("by", ["token", "user", "key"])
async def test_a_user_token_is_revoked(ada: User, by: str) -> None:
    token = user_token(ada)
    socket = await connect(UserSocket, auth_token=token)
    chosen: dict[str, Any] = {
        "token": {"token": token},
        "user": {"user": ada},
        "key": {"user": ada.pk},
    }[by]
    await sync_to_async(revoke)(**chosen)
    await socket.assert_closed(CloseCode.EXPIRED)
    with pytest.raises(ConnectionRefused):
        await connect(UserSocket, auth_token=token)


async def test_in_a_transaction_the_sockets_are_closed_after_the_commit() -> None:
    socket = await connect(NamedSocket, {"token": "ada/1"})

    def in_a_transaction(fails: bool) -> None:
        with transaction.atomic():
            revoke("ada/1")
            if fails:
                transaction.set_rollback(True)

    await sync_to_async(in_a_transaction)(True)
    await socket.join("room:1")
    await sync_to_async(in_a_transaction)(False)
    await socket.assert_closed(CloseCode.EXPIRED)


def test_a_user_tokens_row_lives_as_long_as_the_oldest_token_may(ada: User) -> None:
    class Week(UserSocket):
        token_max_age = 7 * DAY

    revoke(user_token(ada))
    assert end() == pytest.approx(time.time() + 7 * DAY, abs=2)

    class Ever(Week):
        token_max_age = None

    Revocation.objects.all().delete()
    revoke(user_token(ada))
    assert end() is None
    Ever.token_max_age = Week.token_max_age = DAY  # other tests know them too


@pytest.mark.parametrize(
    "token, until",
    [
        (jwt(exp=4_000_000_000), 4_000_000_000),
        (jwt(exp="soon"), None),
        (jwt(), None),
        ("eyJhbGciOiJIUzI1NiJ9.bm8ganNvbg.c2ln", None),
        ("eyJhbGciOiJIUzI1NiJ9.a.c2ln", None),
        ("5f0d3b1c-the-id-of-a-jwt", None),
        ("one:two:three", None),
        ("\ud800", None),
        ("eyJhbGciOiJIUzI1NiJ9." + "W1tb" * 3000 + ".c2ln", None),
        (jwt(exp=10**400), None),
    ],
)
def test_a_row_lives_as_long_as_its_token_says(token: str, until: float | None) -> None:
    revoke(token)
    assert end() == until


def test_who_knows_better_says_until_when() -> None:
    revoke("5f0d", expires_at=4e9)
    assert end() == 4e9


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"token": "ada", "user": 1},
        {"token": ""},
        {"token": b"ada"},
        {"token": 7},
        {"user": AnonymousUser()},
        {"user": User()},
    ],
)
def test_a_token_or_a_user_is_needed(arguments: Any) -> None:
    with pytest.raises(TypeError):
        revoke(**arguments)
    assert not Revocation.objects.exists()


def test_no_token_lies_in_the_database() -> None:
    revoke("a-secret-token")
    assert "secret" not in repr(Revocation.objects.values().get())


async def test_a_process_that_does_not_hear_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*args: Any) -> None:
        raise BroadcastError("the layer is away")

    monkeypatch.setattr(api, "_aorder", fails)
    with pytest.raises(BroadcastError):
        await arevoke("ada/1")
    assert await Revocation.objects.acount() == 1


def test_without_the_app_there_is_a_clear_error(settings: Any) -> None:
    apps = [a for a in settings.INSTALLED_APPS if a != "phx_protocol.revocations"]
    with override_settings(INSTALLED_APPS=apps):
        with pytest.raises(ImproperlyConfigured, match="phx_protocol.revocations"):
            revoke("ada")


def test_a_second_revocation_takes_nothing_back() -> None:
    revoke("5f0d", expires_at=4e9)
    revoke("5f0d", expires_at=3e9)
    assert end() == 4e9
    before = Revocation.objects.get().revoked_at
    Revocation.objects.update(revoked_at=before + 100)
    revoke("5f0d")
    row = Revocation.objects.get()
    assert (row.revoked_at, row.expires_at) == (before + 100, None)


async def test_what_is_said_of_a_call_names_the_function_that_was_called() -> None:
    row = api.Row("user", "7", time.time(), None)
    with pytest.raises(RuntimeError, match=r"revoke\(\) blocks.*await arevoke\("):
        api._order(row)
