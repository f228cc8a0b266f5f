"""The table of events: what Python finds under a method's name is what the wire runs."""

from __future__ import annotations

import functools
from abc import ABC
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from channels.db import database_sync_to_async
from django.utils.decorators import method_decorator

from phx_protocol import Channel, JoinDenied, Socket, event
from phx_protocol.testing import TestChannel, connect

pytestmark = pytest.mark.django_db(transaction=True)
UNAUTHORIZED = {"reason": "unauthorized"}
T = TypeVar("T")


class Base(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("delete", permission_required="auth.delete_user")
    async def delete(self, payload: Any) -> Any:
        return "ok", {"by": "Base.delete"}

    @event("look")
    async def look(self, payload: Any) -> Any:
        return "ok", {"by": "Base.look"}

    async def helper(self, payload: Any) -> Any:
        return "ok", {"by": "Base.helper"}


class Open(Channel):
    """As `Base`, without the permission."""

    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("delete")
    async def delete(self, payload: Any) -> Any:
        return "ok", {"by": "Open.delete"}


class Guarded:
    """A mixin, which is no channel."""

    @event("delete", permission_required="auth.change_user", throttle="3/s")
    async def delete(self, payload: Any) -> Any:
        return "ok", {"by": "Guarded.delete"}


class Quiet:
    async def delete(self, payload: Any) -> Any:
        return "ok", {"by": "Quiet.delete"}


class Typing:
    @event("typing")
    async def typing(self, payload: Any) -> Any:
        return "ok", {"by": "Typing.typing"}


class Off:
    delete = None


class Renamed:
    @event("delete")
    async def remove(self, payload: Any) -> Any:
        return "ok", {"by": "Renamed.remove"}


def may(user: Any, *permissions: str) -> Any:
    class Somebody:
        pk, is_authenticated, is_active = 1, True, True

        def has_perm(self, name: str, obj: Any = None) -> bool:
            return name in permissions

        def has_perms(self, names: Any, obj: Any = None) -> bool:
            return all(map(self.has_perm, names))

        async def ahas_perms(self, names: Any, obj: Any = None) -> bool:
            return self.has_perms(names)

    return Somebody()


async def ask(channel: type, name: str, *permissions: str, payload: Any = None) -> Any:
    """Return the answer of `channel` to the event `name` of a user with `permissions`."""
    room = await joined(channel, *permissions)
    answer = await answered(room, name, payload)
    await room.socket.close()
    return answer


async def joined(channel: type, *permissions: str) -> TestChannel:
    only = type("OneSocket", (Socket,), {"channels": {"room:*": channel}})
    socket = await connect(only, user=may(None, *permissions))
    return await socket.join("room:1")


async def answered(room: TestChannel, name: str, payload: Any = None) -> Any:
    ref = await room.push(name, payload)
    frame = await room.socket._take(lambda frame: frame[1] == ref)
    response = frame[4]["response"]
    return response.get("by") or response.get("reason")


BASE, GUARDED = "auth.delete_user", "auth.change_user"


@pytest.mark.parametrize(
    "bases, event, permission, runs",
    [
        ((Guarded, Open), "delete", GUARDED, "Guarded.delete"),
        ((Guarded, Base), "delete", GUARDED, "Guarded.delete"),
        ((Base, Guarded), "delete", BASE, "Base.delete"),
        ((Quiet, Base), "delete", BASE, "Quiet.delete"),
        ((Quiet, Guarded, Open), "delete", GUARDED, "Quiet.delete"),
        ((Renamed, Base), "delete", BASE, "Renamed.remove"),
        ((Base, Renamed), "delete", BASE, "Base.delete"),
        ((Typing, Base), "typing", None, "Typing.typing"),
        ((Base, Typing), "typing", None, "Typing.typing"),
        ((Open, Base), "look", None, "Base.look"),
    ],
)
async def test_the_method_that_python_finds_runs_with_its_permission(
    bases: tuple[type, ...], event: str, permission: str | None, runs: str
) -> None:
    room = type("Room", bases, {})
    assert room.__phx_tables__.events[event].function is getattr(room, runs.split(".")[1])  # type: ignore[attr-defined]
    assert await ask(room, event, *filter(None, [permission])) == runs
    if permission is not None:
        assert await ask(room, event) == UNAUTHORIZED["reason"]


async def test_a_diamond_is_resolved_as_python_does() -> None:
    class Left(Base):
        @event("delete", permission_required=GUARDED)
        async def delete(self, payload: Any) -> Any:
            return "ok", {"by": "Left.delete"}

    class Right(Base):
        async def delete(self, payload: Any) -> Any:
            return "ok", {"by": "Right.delete"}

    class LeftFirst(Left, Right):
        pass

    class RightFirst(Right, Left):
        pass

    assert await ask(LeftFirst, "delete", GUARDED) == "Left.delete"
    assert await ask(RightFirst, "delete", GUARDED) == "Right.delete"
    assert await ask(LeftFirst, "delete", BASE) == "unauthorized"
    assert await ask(RightFirst, "delete", BASE) == "unauthorized"


async def test_none_switches_an_event_off_and_no_permission_is_lost_by_it() -> None:
    class Without(Off, Base):
        pass

    class Later(Without):
        async def delete(self, payload: Any) -> Any:
            return "ok", {"by": "Later.delete"}

    class Again(Without):
        @event("delete")
        async def delete(self, payload: Any) -> Any:
            return "ok", {"by": "Again.delete"}

    assert await ask(Without, "delete", BASE) == "unhandled event"
    assert await ask(Later, "delete", BASE) == "unhandled event"
    assert await ask(Again, "delete", BASE) == "Again.delete"
    assert await ask(Again, "delete") == "unauthorized"


async def test_an_override_that_is_no_method_is_an_error_where_it_is_written() -> None:
    for wrong in ("text", 5, property(lambda self: None)):
        with pytest.raises(TypeError, match="Room.delete must be a function"):
            type("Room", (Base,), {"delete": wrong})


async def test_a_method_that_takes_no_payload_is_an_error_where_it_is_written() -> None:
    async def forgetful(self: Any) -> None:
        pass

    for made in (forgetful, lambda self: None):
        with pytest.raises(TypeError, match="Room.saved must take 1 arguments"):
            type("Room", (Base,), {"saved": event("saved")(made)})


async def test_a_method_may_be_marked_twice() -> None:
    class Room(Open):
        @event("first", permission_required=BASE)
        @event("second")
        @event("first")
        async def both(self, payload: Any) -> Any:
            return "ok", {"by": "Room.both"}

    assert await ask(Room, "second") == "Room.both"
    assert await ask(Room, "first", BASE) == "Room.both"
    assert await ask(Room, "first") == "unauthorized"


async def test_an_override_under_either_name_of_a_method_is_found() -> None:
    class Aliased(Base):
        @event("purge")
        async def purge(self, payload: Any) -> Any:
            return "ok", {"by": "Aliased.purge"}

        cleanup = purge

    class ByAlias(Aliased):
        async def cleanup(self, payload: Any) -> Any:
            return "ok", {"by": "ByAlias.cleanup"}

    class ByName(Aliased):
        async def purge(self, payload: Any) -> Any:
            return "ok", {"by": "ByName.purge"}

    assert await ask(ByAlias, "purge") == "ByAlias.cleanup"
    assert await ask(ByName, "purge") == "ByName.purge"


async def test_types_and_rates_are_those_of_the_method_that_runs() -> None:
    class Text(msgspec.Struct):
        body: str

    class Typed:
        @event("delete")
        async def delete(self, payload: Text) -> Any:
            return "ok", {"by": payload.body}

    Typed.delete.__annotations__["payload"] = Text
    Room = type("Room", (Typed, Guarded, Open), {})
    assert await ask(Room, "delete", GUARDED, payload={"body": "x"}) == "x"
    assert await ask(Room, "delete", GUARDED, payload={"body": 1}) == "invalid payload"
    room = await joined(Room, GUARDED)
    answers = [await answered(room, "delete", {"body": "x"}) for _ in range(4)]
    assert answers == ["x"] * 3 + ["rate limited"]
    await room.socket.close()


async def test_abstract_and_generic_bases_are_bases_like_others() -> None:
    class Abstract(Channel, ABC, Generic[T]):
        async def join(self, payload: Any) -> Any:
            return "ok"

        @event("delete")
        @staticmethod
        async def delete(payload: Any) -> Any:
            return "ok", {"by": "Abstract.delete"}

    class Concrete(Guarded, Abstract[int]):
        pass

    assert await ask(Abstract[int].__origin__, "delete") == "Abstract.delete"  # type: ignore[attr-defined]
    assert await ask(Concrete, "delete", GUARDED) == "Guarded.delete"
    assert await ask(Concrete, "delete") == "unauthorized"


# ----------------------------------------------------------- class decorators


def safely(function: Any) -> Any:
    @functools.wraps(function)
    async def call(*args: Any) -> Any:  # Django hands over a function that is bound
        return "ok", {"by": "safely"}

    return call


async def test_a_method_that_a_class_decorator_replaced_runs() -> None:
    @method_decorator(safely, name="delete")
    class Room(Base):
        pass

    class Below(Room):
        pass

    for room in (Room, Below):
        assert await ask(room, "delete", BASE) == "safely"
        assert await ask(room, "delete") == "unauthorized"
    assert await ask(Base, "delete", BASE) == "Base.delete"


async def test_a_class_decorator_may_add_an_event_and_take_one_away() -> None:
    def changed(room: Any) -> Any:
        async def late(self: Any, payload: Any) -> Any:
            return "ok", {"by": "late"}

        room.late = event("late")(late)
        room.delete = None
        return room

    @changed
    class Room(Open):
        pass

    assert await ask(Room, "late") == "late"
    assert await ask(Room, "delete") == "unhandled event"
    assert await ask(Open, "delete") == "Open.delete"


async def test_a_class_decorator_may_guard_join_and_the_whole_channel() -> None:
    def closed(room: Any) -> Any:
        room.permission_required = "app.enter"
        return room

    @closed
    class Room(Open):
        pass

    with pytest.raises(JoinDenied, match="unauthorized"):
        await joined(Room)
    room = await joined(Room, "app.enter")
    await room.socket.close()


async def test_a_method_may_have_the_name_of_an_attribute_of_the_channel() -> None:
    class Room(Base):
        @event("topic")
        async def topic(self, payload: Any) -> Any:  # type: ignore[override]
            return "ok", {"by": f"set by {self.topic}"}

    assert await ask(Room, "topic") == "set by room:1"


# ------------------------------------------------- whatever a method is made of


class Text(msgspec.Struct):
    body: str


def audited(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of async."""

    @functools.wraps(function)
    def audit(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return audit


class Bound:
    """A decorator that is a class, with an async ``__call__``, and does not bind itself."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    async def __call__(self, *args: Any) -> Any:
        return await self.function(*args)


class Object:
    async def __call__(self, channel: Any, payload: Text) -> Any:
        return "ok", {"by": f"{channel.topic} {payload.body}"}


class Kinds(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("plain")
    def plain(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @event("database")
    @database_sync_to_async
    def database(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @database_sync_to_async
    @event("database inside")
    def database_inside(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @audited
    @event("audited")
    async def watched(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @audited
    @database_sync_to_async
    @audited
    @event("layers")
    def layers(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @event("bound")
    @Bound
    async def bound(self, payload: Text) -> Any:
        return "ok", {"by": f"{self.topic} {payload.body}"}

    @event("static")
    @staticmethod
    async def static(payload: Text) -> Any:
        return "ok", {"by": f"room:1 {payload.body}"}

    @staticmethod
    @event("static inside")
    def static_inside(payload: Text) -> Any:
        return "ok", {"by": f"room:1 {payload.body}"}

    @event("class")
    @classmethod
    async def of_class(cls, payload: Text) -> Any:
        assert cls is Kinds
        return "ok", {"by": f"room:1 {payload.body}"}

    async def _of(self, room: str, payload: Text) -> Any:
        return "ok", {"by": f"{room} {payload.body}"}

    partial_method = event("partial method")(functools.partialmethod(_of, "room:1"))
    partial = event("partial")(functools.partial(Object()))
    object = event("object")(Object())


@pytest.mark.parametrize("name", [n for n in Kinds.__phx_tables__.events])
async def test_whatever_a_method_is_made_of_it_is_bound_and_awaited(name: str) -> None:
    assert await ask(Kinds, name, payload={"body": "x"}) == "room:1 x"
    assert await ask(Kinds, name, payload={"body": 5}) == "invalid payload"
