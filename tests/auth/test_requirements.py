"""A channel accepts the same users as a Django view: backends and users as projects have them, side by side."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
import rules
from asgiref.sync import sync_to_async
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject
from django.views import View
from rest_framework_simplejwt.models import TokenUser

from phx_protocol import JoinDenied, Socket, event
from phx_protocol.testing import connect
from tests.support.rooms import OpenRoom

pytestmark = pytest.mark.django_db(transaction=True)

NEEDED = "auth.view_user"


class OnlyHasPerm:
    """A backend that knows nothing of async, as most were written."""

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        return bool(user.username.startswith("granted"))


class Everybody(OnlyHasPerm):
    """Grants it to everybody, signed in or not."""

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        return True


class Denies(OnlyHasPerm):
    """Has a last word."""

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        raise PermissionDenied


class DeniesBanned(OnlyHasPerm):
    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        if "banned" in user.username:
            raise PermissionDenied
        return False


class ByTable(BaseBackend):
    """Asks the database, in code that is not async."""

    def get_user_permissions(self, user: Any, obj: Any = None) -> set[str]:  # type: ignore[override]
        known = User.objects.filter(pk=user.pk, email="granted@example.com")
        return {NEEDED} if known.exists() else set()


class AdultsOnly(ModelBackend):
    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:  # type: ignore[override]
        return getattr(user, "first_name", "") != "child" and super().has_perm(
            user, perm, obj
        )


with isolate_apps("django.contrib.auth"):  # they are no models of the project

    class OwnHasPerm(User):
        class Meta:
            proxy = True
            app_label = "auth"

        def has_perm(self, perm: str, obj: Any = None) -> bool:  # type: ignore[override]
            return self.username.startswith("granted")

    class OwnHasPerms(User):
        class Meta:
            proxy = True
            app_label = "auth"

        def has_perms(self, perms: Any, obj: Any = None) -> bool:
            return not self.is_superuser

    class Raises(User):
        class Meta:
            proxy = True
            app_label = "auth"

        def has_perm(self, perm: str, obj: Any = None) -> bool:  # type: ignore[override]
            raise PermissionDenied


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A user of a token: no model, and nothing can be kept on it."""

    username: str
    scopes: frozenset[str] = frozenset()
    pk: int = 1
    is_authenticated: bool = True
    is_anonymous: bool = False
    is_active: bool = True
    is_superuser: bool = False

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return perm in self.scopes

    def has_perms(self, perms: Any, obj: Any = None) -> bool:
        return all(self.has_perm(perm) for perm in perms)


class Guest(AnonymousUser):
    def has_perm(self, perm: str, obj: Any = None) -> bool:  # type: ignore[override]
        return True


class StrictToken(TokenUser):
    """As projects extend it."""

    def has_perms(self, perm_list: Any, obj: Any = None) -> bool:
        return set(perm_list) <= set(self.token.get("scopes", ()))


class AsyncHasPerms(Frozen):
    """``has_perms`` is a coroutine, which counts as true for code that does not await it."""

    async def has_perms(self, perms: Any, obj: Any = None) -> bool:  # type: ignore[override]
        return False


class AsyncOnly(Frozen):
    async def ahas_perms(self, perms: Any, obj: Any = None) -> bool:
        return self.username == "granted"


HERE = __name__
MODEL = "django.contrib.auth.backends.ModelBackend"
ALL_USERS = "django.contrib.auth.backends.AllowAllUsersModelBackend"
RULES = "rules.permissions.ObjectPermissionBackend"
BACKENDS = {
    "model": [MODEL],
    "all users": [ALL_USERS],
    "only has_perm": [f"{HERE}.OnlyHasPerm", MODEL],
    "only has_perm, alone": [f"{HERE}.OnlyHasPerm"],
    "everybody": [MODEL, f"{HERE}.Everybody"],
    "denies first": [f"{HERE}.Denies", MODEL, f"{HERE}.Everybody"],
    "denies last": [MODEL, f"{HERE}.Denies"],
    "denies some": [f"{HERE}.DeniesBanned", MODEL],
    "by a table": [f"{HERE}.ByTable"],
    "a model backend of its own": [f"{HERE}.AdultsOnly"],
    "rules": [RULES, MODEL],
    "rules and a last word": [RULES, f"{HERE}.Denies"],
}


def saved(kind: type = User, permitted: bool = False, **fields: Any) -> Any:
    user = kind.objects.create(**{"username": "ada", **fields})  # type: ignore[attr-defined]
    if permitted:
        codename = NEEDED.split(".")[1]
        user.user_permissions.add(Permission.objects.get(codename=codename))
    return kind.objects.get(pk=user.pk)  # type: ignore[attr-defined]


USERS: dict[str, Callable[[], Any]] = {
    "anonymous": AnonymousUser,
    "a guest": Guest,
    "signed in": saved,
    "permitted": lambda: saved(permitted=True),
    "permitted and lazy": lambda: SimpleLazyObject(lambda: saved(permitted=True)),
    "granted by name": lambda: saved(username="granted"),
    "banned": lambda: saved(username="granted banned", permitted=True),
    "by a table": lambda: saved(email="granted@example.com"),
    "a child": lambda: saved(first_name="child", permitted=True),
    "superuser": lambda: saved(is_superuser=True),
    "inactive superuser": lambda: saved(is_superuser=True, is_active=False),
    "inactive": lambda: saved(username="granted", permitted=True, is_active=False),
    "own has_perm, granted": lambda: saved(OwnHasPerm, username="granted"),
    "own has_perm": lambda: saved(OwnHasPerm, permitted=True),
    "own has_perms": lambda: saved(OwnHasPerms),
    "own has_perms, superuser": lambda: saved(OwnHasPerms, is_superuser=True),
    "raises": lambda: saved(Raises, permitted=True),
    "frozen": lambda: Frozen("granted"),
    "frozen, granted": lambda: Frozen("ada", frozenset({NEEDED})),
    "of a token": lambda: TokenUser({"user_id": 1}),  # type: ignore[arg-type]
    "of a token, staff": lambda: TokenUser({"user_id": 1, "is_superuser": True}),  # type: ignore[arg-type]
    "of a token, granted": lambda: StrictToken({"user_id": 1, "scopes": [NEEDED]}),  # type: ignore[arg-type]
}


class PermissionView(PermissionRequiredMixin, View):
    permission_required = NEEDED
    raise_exception = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class LoginView(LoginRequiredMixin, View):
    raise_exception = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class BothView(LoginRequiredMixin, PermissionView):
    pass


class PermissionRoom(OpenRoom):
    permission_required = NEEDED


class LoginRoom(OpenRoom):
    login_required = True


class BothRoom(LoginRoom, PermissionRoom):
    pass


class EventRoom(OpenRoom):
    @event("look", permission_required=NEEDED)
    async def look(self, payload: Any) -> Any:
        return "ok"


class Rooms(Socket):
    channels = {
        "permission": PermissionRoom,
        "login": LoginRoom,
        "both": BothRoom,
        "event": EventRoom,
    }


def lets_in(view: type[View], user: Any) -> bool:
    request = RequestFactory().get("/")
    request.user = user
    try:
        return view.as_view()(request).status_code == 200
    except PermissionDenied:
        return False


def views_let_in(user: Any) -> dict[str, bool]:
    views = {"permission": PermissionView, "login": LoginView, "both": BothView}
    return {name: lets_in(view, user) for name, view in views.items()}


async def channel_lets_in(user: Any) -> dict[str, bool]:
    socket = await connect(Rooms, user=user)
    answers = {}
    for topic in ("permission", "login", "both"):
        try:
            await socket.join(topic)
            answers[topic] = True
        except JoinDenied as denied:
            assert denied.reply == {"reason": "unauthorized"}, topic
            answers[topic] = False
    room = await socket.join("event")
    ref = await room.push("look")
    frame = await socket._take(lambda frame: frame[1] == ref)
    answers["event"] = frame[4]["status"] == "ok"
    await socket.close()
    return answers


@pytest.fixture(autouse=True)
def rule() -> Any:
    rules.add_perm(NEEDED, rules.predicate(lambda user: user.username == "granted"))
    yield
    rules.remove_perm(NEEDED)


@pytest.mark.parametrize("backends", BACKENDS)
async def test_a_channel_accepts_the_same_users_as_a_view(backends: str) -> None:
    wrong = {}
    for name, make in USERS.items():
        with override_settings(AUTHENTICATION_BACKENDS=BACKENDS[backends]):
            user = await sync_to_async(make)()
            view = await sync_to_async(views_let_in)(user)
            view["event"] = view["permission"]
            if not getattr(user, "is_active", True) and backends != "all users":
                # nobody in a view has such a user: its session is not taken
                view["login"] = view["both"] = False
            channel = await channel_lets_in(user)
            if channel != view:
                wrong[name] = {"view": view, "channel": channel}
            await User.objects.all().adelete()
    assert not wrong


async def test_a_has_perms_that_is_async_is_awaited() -> None:
    assert not (await channel_lets_in(AsyncHasPerms("granted")))["permission"]
    assert (await channel_lets_in(AsyncOnly("granted")))["permission"]
    assert not (await channel_lets_in(AsyncOnly("ada")))["permission"]


async def test_a_user_without_permissions_of_any_kind_has_none() -> None:
    @dataclasses.dataclass
    class Bare:
        is_authenticated: bool = True

    answers = await channel_lets_in(Bare())
    assert answers == {
        "permission": False,
        "login": True,
        "both": False,
        "event": False,
    }


async def test_a_backend_that_waits_holds_up_no_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def has_perms(self: Any, perms: Any, obj: Any = None) -> bool:
        threads.append(threading.current_thread())
        return True

    monkeypatch.setattr(Frozen, "has_perms", has_perms)
    assert (await channel_lets_in(Frozen("ada")))["permission"]
    assert threading.current_thread() not in threads != []
