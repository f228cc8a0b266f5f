"""A handler is at home in Django: the ORM, sync_to_async, contextvars, tasks, a TestCase."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase

from phx_protocol import Channel, Socket, event
from phx_protocol.testing import connect
from tests.support import servers

variable: contextvars.ContextVar[str] = contextvars.ContextVar(
    "variable", default="unset"
)


class UserChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"users": await User.objects.acount()}

    @event("create")
    async def create(self, payload: Any) -> Any:
        user = await User.objects.acreate(username=payload["name"])
        return "ok", {
            "names": [u.username async for u in User.objects.order_by("pk")],
            "id": user.pk,
        }

    @event("create_sync")
    def create_sync(self, payload: Any) -> Any:
        User.objects.create(username=payload["name"])
        return "ok", {"users": User.objects.count()}

    @event("list")
    def list(self, payload: Any) -> Any:
        return "ok", {"names": User.objects.values_list("username", flat=True)}

    @event("forget")
    async def forget(self, payload: Any) -> Any:
        before, after = self.socket.user, await self.socket.aget_user()
        assert self.socket.user is after
        return "ok", {"names": [before.username, after.username]}

    @event("everything")
    async def everything(self, payload: Any) -> Any:
        variable.set("set")
        task = asyncio.current_task()
        inner = await asyncio.create_task(sync_to_async(variable.get)())
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return "ok", {
            "task": task is not None
            and task is not self.socket.__phx__.transport._task,
            "inner": inner,
        }


class UserSocket(Socket):
    channels = {"users": UserChannel}


async def the_database_is_the_tests_own(existing: int) -> None:
    socket = await connect(UserSocket)
    users = await socket.join("users")
    assert users.reply == {"users": existing}
    await users.assert_reply(await users.push("create", {"name": "ada"}), "ok")
    ref = await users.push("create_sync", {"name": "grace"})
    await users.assert_reply(ref, "ok", {"users": existing + 2})
    await socket.close()
    assert await User.objects.filter(username="grace").aexists()


class InATestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        User.objects.create(username="of the test")

    async def test_handlers_see_what_the_test_made(self) -> None:
        await the_database_is_the_tests_own(1)

    async def test_and_it_is_undone_behind_each_test(self) -> None:
        await the_database_is_the_tests_own(1)

    def test_a_synchronous_test_can_still_use_the_database(self) -> None:
        assert User.objects.count() == 1


class InATransactionTestCase(TransactionTestCase):
    async def test_handlers_see_what_the_test_made(self) -> None:
        await User.objects.acreate(username="of the test")
        await the_database_is_the_tests_own(1)


@pytest.mark.django_db
async def test_the_answer_of_a_plain_def_is_evaluated_in_its_thread(
    phx_connect: Any,
) -> None:
    await User.objects.acreate(username="ada")
    users = await (await phx_connect(UserSocket)).join("users")
    ref = await users.push("list")
    await users.assert_reply(ref, "ok", {"names": ["ada"]})


@pytest.mark.django_db
async def test_the_user_can_be_had_as_the_database_has_it_now(phx_connect: Any) -> None:
    ada = await User.objects.acreate(username="ada")
    users = await (await phx_connect(UserSocket, user=ada)).join("users")
    await User.objects.filter(pk=ada.pk).aupdate(username="countess")
    ref = await users.push("forget")
    await users.assert_reply(ref, "ok", {"names": ["ada", "countess"]})
    await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
    ref = await users.push("forget")
    await users.assert_reply(ref, "ok", {"names": ["countess", ""]})


@pytest.mark.django_db(transaction=True)
async def test_under_pytest_as_well() -> None:
    await the_database_is_the_tests_own(0)


async def test_tasks_contextvars_and_threads_are_those_of_any_coroutine() -> None:
    assert variable.get() == "unset"
    socket = await connect(Everything)
    channel = await socket.join("users")
    ref = await channel.push("everything")
    await channel.assert_reply(ref, "ok", {"task": True, "inner": "set"})
    await socket.close()
    assert variable.get() == "unset"


class WithoutDatabase(UserChannel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class Everything(Socket):
    channels = {"users": WithoutDatabase}


def test_an_application_with_an_http_side_of_its_own_sets_django_up() -> None:
    code = (
        "from phx_protocol.asgi import get_phoenix_application as get\n"
        "async def http(scope, receive, send): ...\n"
        "get({'/socket': 'phx_protocol.Socket'}, http=http)\n"
        "from django.apps import apps\n"
        "assert apps.ready and apps.is_installed('phx_protocol')\n"
    )
    servers.python(code, {"DJANGO_SETTINGS_MODULE": "tests.settings"}, check=True)
