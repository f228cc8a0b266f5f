"""The checks of Socket and Channel classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Warning

from ..concurrency.callbacks import find, is_async, is_left_early
from ..conf import options
from ..socket.channel import Channel
from ..socket.routes import load_channel, load_socket
from ..socket.socket import Socket
from ..socket.tables import CALLBACKS, overridden
from ..wire.topics import check_pattern
from .values import check_values


def check_sockets() -> Iterator[CheckMessage]:
    for mount, target in options().sockets.items():
        try:
            if not str(mount).startswith("/"):
                raise ValueError("a mount begins with /")
            socket_class = load_socket(target)
        except Exception as error:
            hint = 'Map a mount ("/socket") to the dotted path of a Socket subclass.'
            yield Error(
                f"SOCKETS[{mount!r}]: {error}", hint=hint, id="phx_protocol.E006"
            )
            continue
        if socket_class.channels is not None:
            yield from check_channels(
                socket_class.channels, f"{socket_class.__name__}.channels"
            )
        if socket_class is not Socket:
            yield from check_values(socket_class)
            yield from _decorators(socket_class, ["connect"])
            yield from _of_threads(socket_class)


def check_channels(channels: Mapping[str, Any], where: str) -> Iterator[CheckMessage]:
    """Check the patterns in their order, and the channel class of each."""
    before: list[str] = []
    for pattern, target in channels.items():
        try:
            check_pattern(pattern)
            channel_class = load_channel(target).channel_class
        except Exception as error:
            hint = 'Map a pattern ("room:lobby", "room:*") to the dotted path of a Channel subclass.'
            yield Error(
                f"{where}[{pattern!r}]: {error}", hint=hint, id="phx_protocol.E004"
            )
            continue
        covering = [b for b in before if b[-1] == "*" and pattern.startswith(b[:-1])]
        if covering:
            yield Warning(
                f"{where}[{pattern!r}] is never reached: {covering[0]!r} takes its topics.",
                hint="The first pattern that matches wins: put the narrower one first.",
                id="phx_protocol.W004",
            )
        before.append(pattern)
        yield from _channel(channel_class)


def _channel(channel_class: type[Channel]) -> Iterator[CheckMessage]:
    name = channel_class.__name__
    if channel_class.join is Channel.join:
        yield Error(
            f"{name} does not define join().",
            hint='It decides who may join: return "ok" or "error".',
            id="phx_protocol.E005",
        )
    if (
        channel_class.handle_out is not Channel.handle_out
        and not channel_class.__phx_tables__.intercepts
    ):
        yield Warning(
            f"{name} defines handle_out() but intercepts no event: it is never called.",
            hint='Name the events: intercepts = {"new_msg"}.',
            id="phx_protocol.W005",
        )

    yield from _payloads(channel_class)
    events = (
        handler.attribute for handler in channel_class.__phx_tables__.events.values()
    )
    yield from _decorators(channel_class, [*CALLBACKS, *events])


def _decorators(owner: type, names: Iterable[str]) -> Iterator[CheckMessage]:
    """Find decorators that do not work for an ``async def`` as they do for a ``def``."""
    for name in names:
        if is_left_early(find(owner, name)):
            yield Warning(
                f"{owner.__name__}.{name} is an async def behind a context manager: it runs after "
                "the manager has ended, outside of the transaction, for example.",
                hint="Write it as a plain def, which runs in a thread, or decorate one that it calls "
                "through database_sync_to_async.",
                id="phx_protocol.W007",
            )


def _of_threads(socket_class: type[Socket]) -> Iterator[CheckMessage]:
    """Find an ``async def`` where the context of callbacks lives on a database connection."""
    if not socket_class.callbacks_in_threads:
        return
    names = [] if socket_class.connect is Socket.connect else ["connect"]
    wrong = [f"{socket_class.__name__}.{n}" for n in _async(socket_class, names)]
    targets = socket_class.channels
    for target in (options().channels if targets is None else targets).values():
        try:
            channel_class = load_channel(target).channel_class
        except Exception:
            continue  # E004 says it
        events = channel_class.__phx_tables__.events.values()
        names = [*overridden(channel_class), *(each.attribute for each in events)]
        wrong += [f"{channel_class.__name__}.{n}" for n in _async(channel_class, names)]
    if wrong:
        yield Error(
            f"{socket_class.__name__}.callbacks_in_threads: {', '.join(sorted({*wrong}))} must "
            "be a plain def.",
            hint="An async def uses the connection of another thread, on which "
            "callback_context has set nothing.",
            id="phx_protocol.E017",
        )


def _async(owner: type, names: Iterable[str]) -> list[str]:
    return [name for name in names if is_async(find(owner, name))]


def _payloads(channel_class: type[Channel]) -> Iterator[CheckMessage]:
    """Check that the declared types can be found, and that payloads can be checked against them."""
    name = channel_class.__name__
    handlers = {
        f"@event({n!r})": h for n, h in channel_class.__phx_tables__.events.items()
    }
    for what, handler in {
        "join()": channel_class.__phx_tables__.join,
        **handlers,
    }.items():
        try:
            replies = handler.replies.declared.values() if handler.replies else ()
            for declared in (handler.payload_type, *replies):
                if declared is not None:
                    declared.verify()
        except Exception as error:
            yield _wrong_type(f"{name}, {what}", error)
    for event, declared in channel_class.__phx_tables__.pushes.items():
        try:
            declared.verify()
        except Exception as error:
            yield _wrong_type(f"{name}.pushes[{event!r}]", error)


def _wrong_type(what: str, error: Exception) -> CheckMessage:
    hint = "Declare a msgspec.Struct, dataclass, TypedDict or pydantic model, importable at runtime."
    return Error(f"{what}: {error}", hint=hint, id="phx_protocol.E016")
