"""Rooms with presences of every kind, and tabs that show them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from phx_protocol import Channel, Presence, Socket, event
from phx_protocol.testing import TestSocket, connect
from phx_protocol.testing.clients import TIMEOUT
from tests.support.presence_js import Shown

TOPIC = "room:1"


class Plain(Presence):
    """One diff a change."""

    diff_interval = 0


class Merging(Presence):
    diff_interval = 0.25


class Named(Presence):
    """Knows more of everybody; what it is asked waits for a gate if there is one."""

    diff_interval = 0
    asked: list[list[str]] = []
    diffs: list[tuple[list[str], list[str], list[str]]] = []
    gates: dict[str, asyncio.Event] = {}
    crashes = False

    async def fetch(self, topic: str, presences: Any) -> Any:
        type(self).asked.append(sorted(presences))
        if self.crashes:
            raise LookupError("no names today")
        for key in presences:
            if key in self.gates:
                await self.gates[key].wait()
        return {k: {**p, "name": k.upper()} for k, p in presences.items()}

    async def handle_metas(
        self, topic: str, joins: Any, leaves: Any, presences: Any
    ) -> None:
        type(self).diffs.append((sorted(joins), sorted(leaves), sorted(presences)))


class FromDatabase(Presence):
    diff_interval = 0

    def fetch(self, topic: str, presences: Any) -> Any:
        names = dict(
            get_user_model()
            .objects.filter(pk__in=presences)
            .values_list("pk", "username")
        )
        return {k: {**p, "name": names[int(k)]} for k, p in presences.items()}


class Renamed(Presence):
    diff_interval = 0
    state_event = "who"
    diff_event = "who_changed"


class Base(Channel):
    """The tests call Presence with the channels that were joined, by the names of their clients."""

    joined: dict[str, Base] = {}

    async def join(self, payload: Any) -> Any:
        self.assigns["name"] = payload.get("name", "")
        return "ok"

    async def after_join(self) -> None:
        Base.joined[self.assigns["name"]] = self

    @event("crash")
    async def crash(self, payload: Any) -> Any:
        raise RuntimeError("crash")

    @event("stop")
    async def stop_now(self, payload: Any) -> Any:
        await self.stop(payload.get("reason", "normal"))


class Silent(Base):
    """Tracks nobody by itself."""


class PlainChannel(Base):
    presence: Any = Plain

    def presence_key(self) -> str:
        return str(self.assigns["name"])

    def presence_meta(self) -> dict[str, Any]:
        return {"of": self.assigns["name"]}


class MergingChannel(PlainChannel):
    presence = Merging


class NamedChannel(PlainChannel):
    presence = Named


class DatabaseChannel(Base):
    presence = FromDatabase


class RenamedChannel(PlainChannel):
    presence = Renamed


class DefaultChannel(Base):
    presence = Plain


class TooEarly(Base):
    async def join(self, payload: Any) -> Any:
        await Plain.track(self, "ada", {})
        return "ok"


class Filtering(PlainChannel):
    intercepts = {"presence_diff"}

    async def handle_out(self, event: str, payload: Any) -> None:
        payload["joins"].pop("secret", None)
        await self.push(event, {**payload, "for": self.assigns["name"]})


class Broken(PlainChannel):
    def presence_meta(self) -> dict[str, Any]:
        return {"what": object()}


class RoomSocket(Socket):
    channels = {
        "room:*": PlainChannel,
        "silent:*": Silent,
        "merging:*": MergingChannel,
        "named:*": NamedChannel,
        "database:*": DatabaseChannel,
        "renamed:*": RenamedChannel,
        "default:*": DefaultChannel,
        "early": TooEarly,
        "filtering:*": Filtering,
        "broken": Broken,
    }


class Tab:
    """A client with phoenix.js's Presence; it reads every frame in the order they come."""

    def __init__(self, socket: TestSocket, topic: str, name: str) -> None:
        self.socket, self.topic, self.name = socket, topic, name
        self.shown = Shown()
        self.events: list[str] = []
        self.payloads: list[Any] = []
        self.names = ("presence_state", "presence_diff")

    async def join(self) -> None:
        """Join (again), and wait until the channel has done what it does after the join."""
        Base.joined.pop(self.name, None)
        self.shown.joins()
        join_ref = str(next(self.socket._refs))
        payload = {"name": self.name}
        await self.socket.send([join_ref, join_ref, self.topic, "phx_join", payload])
        await self.until(lambda: self.name in Base.joined, "after_join")

    async def push(self, event: str, payload: Any = None) -> None:
        join_ref = Base.joined[self.name].join_ref
        ref = str(next(self.socket._refs))
        await self.socket.send([join_ref, ref, self.topic, event, payload or {}])

    async def leave(self) -> None:
        await self.push("phx_leave")
        await self.until(lambda: "phx_close" in self.events, "phx_close")

    def read(self) -> None:
        """Take what has arrived."""
        while self.socket._arrived:
            _, _, topic, event, payload = self.socket._arrived.pop(0)
            if topic != self.topic:
                continue
            self.events.append(event)
            self.payloads.append(payload)
            if event == self.names[0]:
                self.shown.take_state(payload)
            elif event == self.names[1]:
                self.shown.take_diff(payload)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + TIMEOUT
        while True:
            await self.catch_up()
            if condition():
                return
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(
                    f"{what} did not come; {self.name} shows {self.shown.state}"
                )
            await asyncio.sleep(0.002)

    async def catch_up(self) -> None:
        """Take all that the server has written until now, up to the answer to a heartbeat."""
        ref = f"hb{next(self.socket._refs)}"
        await self.socket.send([None, ref, "phoenix", "heartbeat", {}])
        while not any(frame[1] == ref for frame in self.socket._arrived):
            await self.socket._receive("the answer to a heartbeat")
        self.read()

    async def shows(self, *keys: str) -> None:
        """Wait until these are the keys of the list, each as often as it has metas."""

        def shown() -> list[str]:
            state = self.shown.state
            return sorted(key for key in state for _ in state[key]["metas"])

        await self.until(lambda: shown() == sorted(keys), f"{keys}")

    async def listed(self, presence: type[Presence], topic: str, *keys: str) -> None:
        """Wait until these are the keys of what ``list`` finds."""
        async with asyncio.timeout(TIMEOUT):
            while sorted(await presence.list(topic)) != sorted(keys):
                await self.catch_up()

    @property
    def channel(self) -> Base:
        return Base.joined[self.name]


Enter = Callable[..., Coroutine[Any, Any, Tab]]


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    Base.joined = {}
    Named.asked, Named.diffs, Named.gates, Named.crashes = [], [], {}, False
    sockets: list[TestSocket] = []

    async def enter(name: str, topic: str = TOPIC, **kwargs: Any) -> Tab:
        sockets.append(await connect(RoomSocket, **kwargs))
        tab = Tab(sockets[-1], topic, name)
        await tab.join()
        return tab

    yield enter
    for socket in sockets:
        await socket.close()
