"""Code of users for presences, right and wrong: a mistake is logged and harms no client."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from phx_protocol import Channel, Presence, Socket, introspection
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket as Connected
from phx_protocol.testing import connect
from tests.docs.blocks import BLOCKS
from tests.support.rooms import OpenRoom

Answer = Callable[[Any], Any]


class Careless(Presence):
    """Its fetch returns whatever the test says."""

    diff_interval = 0
    answer: Answer = dict

    async def fetch(self, topic: str, presences: Any) -> Any:
        return type(self).answer(presences)


class Room(Channel):
    presence = Careless
    key: Any = "ada"
    meta: Any = {"device": "phone"}

    async def join(self, payload: Any) -> Any:
        return "ok"

    def presence_key(self) -> Any:
        return Room.key() if callable(Room.key) else Room.key

    def presence_meta(self) -> Any:
        return Room.meta() if callable(Room.meta) else Room.meta


class RoomSocket(Socket):
    channels = {"room:*": Room}


@pytest.fixture
async def client() -> AsyncIterator[Connected]:
    Careless.answer, Room.key, Room.meta = dict, "ada", {"device": "phone"}
    socket = await connect(RoomSocket)
    yield socket
    await socket.close()


def _forgets(presences: Any) -> None:
    for presence in presences.values():
        presence["name"] = "Ada"


async def _async() -> Any:
    return "ada"


WRONG: dict[str, Answer] = {
    "nothing": _forgets,
    "a list": list,
    "no metas": lambda presences: dict.fromkeys(presences, {"name": "Ada"}),
    "metas of a key alone": lambda presences: {
        key: presence["metas"] for key, presence in presences.items()
    },
    "metas that are none": lambda presences: {k: {"metas": None} for k in presences},
    "a meta that is none": lambda presences: {k: {"metas": [1]} for k in presences},
    "metas without their refs": lambda presences: {
        key: {"metas": [{"name": "Ada"}]} for key in presences
    },
    "keys that are numbers": lambda presences: {1: p for p in presences.values()},
    "something that is not JSON": lambda presences: {
        key: {**presence, "user": object()} for key, presence in presences.items()
    },
    "what is no Unicode": lambda presences: {
        key: {**presence, "name": "\ud800"} for key, presence in presences.items()
    },
    "a coroutine function": lambda presences: _async,
}


def _crashes(presences: Any) -> None:
    raise RuntimeError("crash")


def _awaits_what_was_cancelled(presences: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("crash", [_crashes, _awaits_what_was_cancelled])
async def test_a_fetch_that_crashes_costs_lines_and_the_list_is_plain(
    client: Connected, caplog: pytest.LogCaptureFixture, crash: Answer
) -> None:
    Careless.answer = crash
    room = await client.join("room:1")
    await room.assert_push("presence_state", {})
    diff = await room.assert_push("presence_diff")
    assert list(diff["joins"]["ada"]) == ["metas"]
    assert "Careless.fetch crashed" in caplog.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_fetch_that_returns_something_else_costs_a_line_and_the_list_is_plain(
    client: Connected, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    Careless.answer = WRONG[wrong]
    await client.join("room:1")
    frames = [await client._take(lambda f: f[3].startswith("presence_"))]
    frames.append(await client._take(lambda f: f[3] == "presence_diff"))
    state, diff = (frame[4] for frame in frames)
    assert state == {}
    assert diff["leaves"] == {}
    assert [m["device"] for m in diff["joins"]["ada"]["metas"]] == ["phone"]
    assert list(diff["joins"]["ada"]) == ["metas"]
    (record,) = caplog.records
    assert "Careless.fetch returns" in record.getMessage()
    back = await connect(RoomSocket)
    Room.key = "bob"
    await back.join("room:1")
    shown = await back._take(lambda f: f[3] == "presence_state")
    assert list(shown[4]["ada"]) == ["metas"]
    await back.close()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [None, "\ud800"], ids=repr)
async def test_a_key_that_is_none_is_that_of_the_channel(
    client: Connected, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    Room.key = wrong
    await client.join("room:1")
    diff = await client._take(lambda f: f[3] == "presence_diff")
    ((key, presence),) = diff[4]["joins"].items()
    assert key and presence["metas"][0]["device"] == "phone"
    (record,) = caplog.records
    assert "Room.presence_key returns no key" in record.getMessage()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [None, ["phone"], {"at": object}], ids=repr)
async def test_a_meta_that_is_none_is_empty(
    client: Connected, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    Room.meta = wrong
    await client.join("room:1")
    diff = await client._take(lambda f: f[3] == "presence_diff")
    ((meta,),) = [p["metas"] for p in diff[4]["joins"].values()]
    assert list(meta) == ["phx_ref"]
    (record,) = caplog.records
    assert "Room.presence_meta returns no mapping" in record.getMessage()


@pytest.mark.django_db(transaction=True)
async def test_the_fetch_of_the_docs_handles_visitors_and_deleted_users() -> None:
    (code,) = [
        b.code for b in BLOCKS if "def fetch(" in b.code and "ain_bulk" in b.code
    ]
    (fetch,) = re.findall(r" +async def fetch.*?return presences[^\n]*\n", code, re.S)
    names = {"User": get_user_model(), "Presence": Presence}
    exec(f"class RoomPresence(Presence):\n{fetch}", names)
    presence: Any = names["RoomPresence"]
    ada = await get_user_model().objects.acreate_user("ada")
    gone = await get_user_model().objects.acreate_user("gone")
    # an anonymous one first, and last; one that no key of a user can be
    keys = ["node.1", str(ada.pk), str(gone.pk), "²", "node.2"]
    await gone.adelete()
    shown = {key: {"metas": [{"phx_ref": key}]} for key in keys}
    found = await presence().fetch("room:1", shown)
    assert list(found) == keys
    assert [p["name"] for p in found.values()] == [None, "ada", None, None, None]
    assert all(presence["metas"] for presence in found.values())


# ---------------------------------------------------------------------------- users


class Raises:
    """A lazy user that cannot be loaded here, say."""

    is_authenticated = True

    @property
    def pk(self) -> int:
        raise RuntimeError("not on the event loop")

    get_username = None


class Lazy:
    @property
    def is_authenticated(self) -> bool:
        raise RuntimeError("not on the event loop")


class Nameless:
    is_authenticated = True
    pk = 8

    def get_username(self) -> str:
        raise LookupError("no name")


class DefaultChannel(OpenRoom):
    presence = Presence


class DefaultSocket(Socket):
    channels = {"room:*": DefaultChannel}


class OwnUser(DefaultSocket):
    """Its user is its own affair, and raises."""

    @property
    def user(self) -> Any:
        raise RuntimeError("no user yet")


USERS: dict[str, tuple[Any, str | None, str | None]] = {
    "of a token": (SimpleNamespace(is_authenticated=True, sub="x"), None, None),
    "without a name": (SimpleNamespace(is_authenticated=True, pk=7), "7", None),
    "that is not saved": (SimpleNamespace(is_authenticated=True, pk=None), None, None),
    "whose name raises": (Nameless(), "8", None),
    "whose key raises": (Raises(), None, None),
    "that raises": (Lazy(), None, None),
    "that is text": ("ada", None, None),
}


@pytest.mark.parametrize("kind", USERS)
async def test_a_user_of_any_kind_is_listed_and_present_and_in_nobodys_way(
    kind: str,
) -> None:
    user, key, name = USERS[kind]
    strange = await connect(DefaultSocket, user=user)
    known = SimpleNamespace(is_authenticated=True, pk=99, get_username=lambda: "known")
    other = await connect(DefaultSocket, user=known)
    await strange.join("room:1")
    diff = await strange._take(lambda f: f[3] == "presence_diff")
    (tracked,) = diff[4]["joins"]
    assert tracked == key if key else tracked
    (connection,) = [s for s in get_node().connections if s.has_joined("room:1")]
    assert (connection.describe()["user"], connection.describe()["username"]) == (
        key,
        name,
    )
    listed = await introspection.alist_sockets(topic="room:1")
    assert [(s.user, s.username) for s in listed] == [(key, name)]
    of_known = list(get_node().connections.of_user("99"))
    assert [s.user for s in of_known] == [known]
    assert list(get_node().connections.of_user("None")) == []
    await strange.close()
    await other.close()


async def test_a_socket_with_a_user_that_raises_is_listed_without_a_user() -> None:
    strange = await connect(OwnUser)
    await strange.join("room:1")
    await strange._take(lambda f: f[3] == "presence_diff")
    (connection,) = [s for s in get_node().connections if s.has_joined("room:1")]
    assert (connection.describe()["user"], connection.describe()["username"]) == (
        None,
        None,
    )
    assert list(get_node().connections.of_user("1")) == []
    await strange.close()


# ------------------------------------------------------------------------- contexts

language: contextvars.ContextVar[str] = contextvars.ContextVar("language")
seen: list[str | None] = []


class Listening(Presence):
    diff_interval = 0

    async def fetch(self, topic: str, presences: Any) -> Any:
        seen.append(language.get(None))
        return presences

    async def handle_metas(self, *args: Any) -> None:
        seen.append(language.get(None))


class Merging(Listening):
    diff_interval = 0.01


@pytest.mark.parametrize("presence", [Listening, Merging])
async def test_work_for_all_clients_does_not_run_in_the_context_of_the_first(
    presence: type[Presence],
) -> None:
    channels = {"room:*": type("Room", (DefaultChannel,), {"presence": presence})}
    socket = await connect(type("ItsSocket", (Socket,), {"channels": channels}))
    await socket.join("room:1")
    await socket._take(lambda f: f[3] == "presence_diff")
    seen.clear()
    language.set("de")
    for name in ("ada", "bob"):
        await presence.track("room:1", name, {})
    while True:
        diff = await socket._take(lambda f: f[3] == "presence_diff")
        if "bob" in diff[4]["joins"]:
            break
    await presence.untrack("room:1")
    await socket._take(lambda f: f[3] == "presence_diff")
    assert seen and set(seen) == {None}
    await socket.close()
