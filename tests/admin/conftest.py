"""Clients with channels in this process, and staff that looks at them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypedDict

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client

from phx_protocol import Channel, History, Presence, Socket
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestChannel as JoinedChannel
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect

Open = Callable[..., Awaitable[Connected]]


class Visitor:
    """Django's test client, out of the way of the event loop that has the sockets.

    Its own client for ASGI takes no paths beyond Latin-1.
    """

    def __init__(self, **options: Any) -> None:
        self.client = Client(**options)

    async def get(self, address: str, **options: Any) -> Any:
        return await sync_to_async(self.client.get)(address, **options)

    async def post(self, address: str, data: Any = None, **options: Any) -> Any:
        return await sync_to_async(self.client.post)(address, data, **options)


Staff = Callable[..., Awaitable[Visitor]]


class SeatPresence(Presence):
    pass


class Seats(TypedDict):
    free: int


class SeatChannel(Channel):
    presence = SeatPresence
    pushes = {"counted": Seats}
    history = History(size=5, ttl=60, events={"said"})

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_meta(self) -> dict[str, Any]:
        return {"name": self.socket.user.get_username()}


class SeatSocket(Socket):
    channels = {"*": SeatChannel}


@pytest.fixture
async def open() -> AsyncIterator[Open]:
    """Opens a connection that has joined these topics, of a user if one is named."""
    opened: list[Connected] = []

    async def open(*topics: str, user: str = "") -> Connected:
        whose, _ = await User.objects.aget_or_create(username=user or "anybody")
        opened.append(await connect(SeatSocket, user=whose))
        for topic in topics:
            await opened[-1].join(topic)
        await beaten()
        return opened[-1]

    yield open
    for connected in opened:
        await connected.close()
    await beaten()


async def joined(open: Open, topic: str, user: str = "") -> JoinedChannel:
    """A channel of a new connection."""
    channel = await (await open(user=user)).join(topic)
    await beaten()
    return channel


async def beaten() -> None:
    """The state knows what is so now."""
    await get_node().heartbeat.ready()
    await get_node().heartbeat.beat()


@pytest.fixture
async def staff() -> Staff:
    """Signs in a member of staff with these permissions of the app."""

    async def staff(*permissions: str, **options: Any) -> Visitor:
        name = f"staff {await User.objects.acount()}"
        user = await User.objects.acreate(username=name, is_staff=True)
        ours = Permission.objects.filter(content_type__app_label="phx_protocol")
        chosen = [p async for p in ours.filter(codename__in=permissions)]
        assert len(chosen) == len(permissions)
        await user.user_permissions.aset(chosen)
        visitor = Visitor(**options)
        await visitor.client.aforce_login(user)
        return visitor

    return staff


def rows(page: HttpResponse, table: str) -> list[list[str]]:
    """The text of the cells of a table, as it stands in the page: escaped."""
    body = re.search(rf'<tbody data-rows="{table}">(.*?)</tbody>', html(page), re.S)
    assert body is not None
    return [
        [text(cell) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr\b.*?</tr>", body[1], re.S)
    ]


def text(part: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", part).split())


def html(page: HttpResponse) -> str:
    return page.content.decode()


def links(page: HttpResponse) -> list[str]:
    """Where the content of the page leads."""
    content = html(page).partition('<main id="content-start"')[2]
    return re.findall(r'<a [^>]*href="([^"]+)"', content)
