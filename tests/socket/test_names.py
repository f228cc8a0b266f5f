"""Any name of a user in a Socket or a Channel works: the library keeps nothing there."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import phx_protocol.socket
from phx_protocol import (
    Channel,
    History,
    Info,
    Presence,
    Reason,
    Socket,
    abroadcast,
    aclose_topic,
    adisconnect,
    areauthorize,
    event,
    local_broadcast,
    reply,
)
from phx_protocol.conf import Options
from phx_protocol.introspection import alist_sockets
from phx_protocol.node.node import get_node
from phx_protocol.testing import TestSocket, connect
from phx_protocol.tokens import TokenSocket
from tests.support.asgi_poll_client import Client

#: what the library once kept in a Socket, in a Channel, and in what stands behind them
NAMES_OF_ONCE = """
    _abandon _abandoned _admit _answer _answer_http _ask _ask_join _ask_whether_still _asked
    _asked_at _at_end _authenticate _batch _begin _bound _callback _callbacks _channel _charged
    _check_room _close_topic _closing _closings _code _confirm _consumer _context _crash
    _current_user _decide _decode _deliver _disconnect _disconnect_socket _disconnect_user _drop
    _drop_broadcasts _drop_mail _edge _end _end_at_once _ended _ending _events _exception
    _excess _failed _find _fits _frames _frames_bytes _further _get _give_back _gone
    _handle_close _handle_event _handle_in _handle_info _handle_interrupt _handle_large
    _handle_message _handle_out _handle_parted _handle_undecoded _handled _handling _handshake
    _heard_at _held_events _hold _id _in_flight _in_order _in_time _intercepts _is_closed
    _is_cut_off _is_finished _is_for_channel _is_gone _is_known_page _is_receiving _is_shown
    _is_terminated _join _joined _joined_at _leave _let_in _lifetime _limit _load_user _loaded
    _loading _look _look_later _loop _mailbox _make_tables _may_be_here _message _miss _missed
    _next _next_at _now _numbers _open _opening _orders _outgoing _overflowed _paid_at _part
    _password_changed _patience _poll _polls _post _preflight _pubsub _purpose _pushes _put
    _rates _read _reauthorize _receive _recover _ref_of _refuse _refuse_for _refuse_join
    _refuse_when_settled _refused _relay _release _replay _replay_out _reply _requirement
    _respond _run _said _say_crashed _say_unauthorized _say_withheld _send _senders _serve
    _server _servers _session_ended _session_key _sessions _settled _short _shutdown_timeout
    _size _sockets _start _stop _stop_if_wanted _stop_reason _subprotocol _take _take_at_once
    _take_missed _taken _task _tell_crashed _tell_handled_in _tell_left _terminate _throttles
    _timer _token _token_param _turn _turns _unauthorized _unpolled _until_gone _wait _waiting
    _wake _wanted _window _write add admission admit after_join aget_user announce answer
    are_any as_asgi ask_again assigns at_end auth_token authenticated authorize broadcast
    broadcast_from budget busy channel channel_class channel_join_ref channels charged
    check_origin check_push check_tls choose_subprotocol close close_topic communicator confirm
    confirm_now connect connect_info create_task cut_off decided decode deliver
    deliver_broadcast deliver_further describe discard disconnect_named encode end ended enter
    event exception expect expect_orders fail fastlane filtered finish forget frame generation
    get give_back gone handle_in handle_info handle_out handshake has_joined headers held_bytes
    history history_of holds_too_much id intercepts interrupt is_cut_off is_empty is_known_as
    is_receiving join join_ref joined key last_seen left limit log log_handle_in log_join
    log_request login_required look_again make messages must_have_joined name number obey
    of_user offsets open opened_at options overflowed owed params pause payload pending_bytes
    permission_required poll polled post prepare presence presence_key presence_meta pubsub push
    push_to pushes read_params reason reauthorize receive refuse refuse_for rejoin reload_user
    reply reply_ref requested_at right_has_changed route routes scope send send_info serializer
    server session_ended settling shutdown_timeout socket source status stop stop_soon subscribe
    subtopic take taken task tell_connected terminate throttle throttles token_max_age
    token_param token_required topic transport undecodable unsubscribe user user_disconnected
    user_is_current versions waiting waiting_bytes write
"""
PUBLIC = (Path(__file__).parent.parent / "public_surface.txt").read_text()


def public_names(of: type) -> set[str]:
    """Return the documented names of a class: users know that it has these."""
    return set(
        re.findall(rf"^phx_protocol\.(?:\w+\.)?{of.__name__}\.(\w+)", PUBLIC, re.M)
    )


def names_of_today() -> Iterator[str]:
    """All names in the classes behind a socket, whatever they are there."""
    package = phx_protocol.socket
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for _, found in inspect.getmembers(importlib.import_module(module.name)):
            if inspect.isclass(found) and found.__module__.startswith("phx_protocol"):
                yield from dir(found)


SETTINGS = {field.name for field in dataclasses.fields(Options)}
ALL = {*NAMES_OF_ONCE.split(), *names_of_today()}
PRIVATE = {name for name in ALL if not name.startswith("__")}
OF_A_SOCKET = PRIVATE - public_names(Socket) - public_names(TokenSocket) - SETTINGS
OF_A_CHANNEL = PRIVATE - public_names(Channel)


class Mine:
    """A value of the user's: nobody else has any business with it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of what is the user's is asked for")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("what is the user's is called")

    def __bool__(self) -> bool:
        raise AssertionError("what is the user's is looked at")


def method(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a method of the user's is called")


def take_all(of: Any, names: set[str]) -> None:
    for name in names:
        setattr(of, name, Mine())


class Visitors(Presence):
    pass


class Room(Channel):
    intercepts = {"shout"}
    history = History(size=10, ttl=60, events={"kept"})
    presence = Visitors

    async def join(self, payload: Any) -> Any:
        self.on_join()
        return "ok", {"peer": self.params["peer"]}

    def on_join(self) -> None:
        """Set what the test wants to be set."""

    async def after_join(self) -> None:
        await self.subscribe("news")
        await self.push("welcome", {})

    async def handle_in(self, name: str, payload: Any) -> Any:
        return "ok", {"event": name}

    async def handle_out(self, name: str, payload: Any) -> None:
        await self.push(name, {**payload, "seen": True})

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, Info):
            await self.push("news", message.payload)
        else:
            await self.push("info", message)

    async def terminate(self, reason: Reason) -> None:
        ends.append(reason)

    @event("echo")
    async def do_echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("typed", throttle="100/s")
    async def do_typed(self, payload: dict[str, int]) -> tuple[str, dict[str, int]]:
        return "ok", payload

    @event("all")
    async def do_all(self, payload: Any) -> None:
        await self.broadcast("shout", payload)
        await self.broadcast("plain", payload)
        await self.broadcast("kept", payload)
        await self.broadcast_from("others", payload)
        self.send_info({"info": 1})

    @event("later")
    async def do_later(self, payload: Any) -> None:
        await reply(self.reply_ref(), "ok", {"later": True})

    @event("who")
    async def do_who(self, payload: Any) -> Any:
        user = await self.socket.aget_user()
        await self.socket.push_to("elsewhere", "hello", {})
        return "ok", {"user": str(user), "allowed": await self.reauthorize()}

    @event("stop")
    async def do_stop(self, payload: Any) -> None:
        await self.stop()


class User(Socket):
    channels = {"room:*": Room}
    throttle = "10000/s"
    longpoll = True

    async def connect(self, params: dict[str, Any]) -> None:
        self.params["peer"] = str(self.connect_info.peer)
        self.on_connect()

    def on_connect(self) -> None:
        """Set what the test wants to be set."""

    def id(self) -> str | None:
        return "user:1"


class TokenUser(TokenSocket, User):
    token_required = False


ends: list[Reason] = []


def in_the_instance(base: type[Socket]) -> type[Socket]:
    """A Socket that sets all names in ``connect``, with a channel that does so in ``join``."""

    class Full(Room):
        def on_join(self) -> None:
            take_all(self, OF_A_CHANNEL)

    class FullSocket(base):  # type: ignore[misc, valid-type]
        channels = {"room:*": Full}

        def on_connect(self) -> None:
            take_all(self, OF_A_SOCKET)

    return FullSocket


def in_the_class(base: type[Socket], value: Callable[[], Any]) -> type[Socket]:
    """A Socket whose class has all names, with a channel that has them too."""
    full = type("Full", (Room,), {name: value() for name in OF_A_CHANNEL})
    names = {name: value() for name in OF_A_SOCKET}
    return type("FullSocket", (base,), {**names, "channels": {"room:*": full}})


KINDS: dict[str, Callable[[type[Socket]], type[Socket]]] = {
    "set in the instance": in_the_instance,
    "attributes of the class": lambda base: in_the_class(base, Mine),
    "methods": lambda base: in_the_class(base, lambda: method),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_wrong(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    ends.clear()
    yield
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_there_is_something_to_be_in_the_way_of() -> None:
    assert {"_server", "routes", "key", "transport", "_joined_at"} <= OF_A_SOCKET
    assert {"_server", "check_push", "transport", "rights"} <= OF_A_CHANNEL
    assert {"connect", "timeout", "push_to", "token_param"}.isdisjoint(OF_A_SOCKET)
    assert {"join", "push", "socket"}.isdisjoint(OF_A_CHANNEL)


@pytest.mark.parametrize("wire", [True, False])
@pytest.mark.parametrize("base", [User, TokenUser])
async def test_a_connection_works_whatever_its_names(
    kind: Any, base: type[Socket], wire: bool
) -> None:
    client = await connect(kind(base), wire=wire)
    other = await connect(kind(base), wire=wire)
    room = await client.join("room:1", {"history": {}})
    await other.join("room:1")
    await room.assert_push("presence_state", ...)
    await room.assert_push("welcome", {})
    for name, payload in (("echo", {"n": 1}), ("typed", {"n": 1})):
        await room.assert_reply(await room.push(name, payload), "ok", {"n": 1})
    unknown = await room.push("unknown", {})
    await room.assert_reply(unknown, "ok", {"event": "unknown"})
    await room.assert_reply(await room.push("later", {}), "ok", {"later": True})
    await room.push("all", {"n": 2})
    await room.assert_push("shout", {"n": 2, "seen": True})
    await room.assert_push("plain", {"n": 2})
    await room.assert_push("kept", {"n": 2})
    await room.assert_push("info", {"info": 1})
    await room.refute_push("others")
    await local_broadcast("news", "any", {"n": 3})
    await room.assert_push("news", {"n": 3})
    who = await room.push("who", {})
    await room.assert_reply(who, "ok", {"user": "AnonymousUser", "allowed": True})
    assert list(await Visitors.list("room:1"))
    await what_operators_do(client, room)
    await adisconnect("user:1")
    await client.assert_closed(1001)
    await client.close()
    await other.close()


async def what_operators_do(client: TestSocket, room: Any) -> None:
    """See the connection, ask it again, close its channel; its client joins again and stops."""
    shown, _ = await alist_sockets(topic="room:1")
    assert (shown.name, shown.topics) == ("user:1", ["room:1"])
    await areauthorize(topic="room:1")
    missed = room.reply["history"]["offset"]
    await aclose_topic("room:1")
    await room.assert_ended()
    assert ends == [Reason.SHUTDOWN] * 2
    await abroadcast("room:1", "kept", {"n": 4})
    room = await client.join("room:1", {"history": {"offset": missed}})
    await room.assert_push("kept", {"n": 2})
    await room.assert_push("kept", {"n": 4})
    again = await client.join("room:1")
    assert ends[2:] == [Reason.DUPLICATE_JOIN]
    await again.push("stop", {})
    await again.assert_ended()
    left = await client.join("room:1")
    await left.leave()
    assert ends[3:] == [Reason.NORMAL, Reason.LEFT]
    await client.join("room:1")


async def test_a_process_that_goes_down_closes_it_whatever_its_names(kind: Any) -> None:
    client = await connect(kind(User))
    await client.join("room:1")
    await get_node().drainer.drain_now()
    await client.assert_closed(1012)
    await client.close()
    assert ends == [Reason.DRAINING]


async def test_a_client_that_polls_is_served_whatever_the_names(kind: Any) -> None:
    client = Client(kind(User))
    await client.open()
    await client.post(["1", "1", "room:1", "phx_join", {}])
    await client.post(["1", "2", "room:1", "echo", {"n": 1}])
    while (await client.receive())[1] != "2":
        pass
    await adisconnect("user:1")
    assert ends == [Reason.DISCONNECTED]
