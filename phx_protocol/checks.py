"""The system checks: each misconfiguration has an id and a hint."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.conf import settings
from django.core.checks import WARNING, CheckMessage, Error, Info, Warning, register
from django.utils.module_loading import import_string

from .concurrency.callbacks import find, is_left_early
from .conf import DRAINER, LONGPOLL, OUTBOUND, STATE, WEBSOCKET, Options, options
from .exceptions import StateError
from .logs import get_logger
from .pubsub.link import is_in_memory
from .socket.channel import Channel
from .socket.routes import load_channel, load_socket
from .socket.socket import Socket
from .socket.tables import CALLBACKS
from .socket.throttle import parse_rates
from .state.factory import backend, get_state
from .transports.origin import Place
from .wire.serializers import parse_requirement
from .wire.topics import check_pattern

#: setting -> the types of its value
TYPES: dict[str, tuple[type, ...]] = {
    "CHANNELS": (Mapping,),
    "SOCKETS": (Mapping,),
    "CHANNEL_LAYER": (str,),
    "WEBSOCKET": (bool, Mapping),
    "LONGPOLL": (bool, Mapping),
    "DRAINER": (bool, Mapping),
    "TIMEOUT": (int, float),
    "MAX_FRAME_SIZE": (int,),
    "MAX_BROADCAST_SIZE": (int,),
    "MAX_CHANNELS": (int,),
    "MAX_CONNECTIONS": (int, type(None)),
    "MAX_CONNECTION_AGE": (int, float, type(None)),
    "THROTTLE": (str, Mapping, type(None)),
    "MAX_TOPIC_LENGTH": (int,),
    "MAX_EVENT_LENGTH": (int,),
    "MAX_REF_LENGTH": (int,),
    "MAX_PARAMS": (int,),
    "MAX_PARAMS_DEPTH": (int,),
    "OUTBOUND": (Mapping,),
    "INBOUND": (int,),
    "INBOUND_BYTES": (int,),
    "CLOSE_ON_PASSWORD_CHANGE": (bool,),
    "SUBPROTOCOLS": (list, tuple, type(None)),
    "SHUTDOWN_TIMEOUT": (int, float),
    "SYNC_THREADS": (int,),
    "GC_FREEZE": (bool,),
    "LOCAL_BUS": (bool, type(None)),
    "GC_THRESHOLD": (int, type(None)),
    "FILTER_PARAMETERS": (list, tuple, set, frozenset, Mapping),
    "SERIALIZERS": (Mapping,),
    "STATE": (str, Mapping),
    "TRANSPORT_LOG": (str, type(None)),
}
logger = get_logger("phx_protocol.checks")
# True if this process has shown the results, by a command of manage.py or by report()
_is_shown = False
KEYS = [name.upper() for name in Options.__dataclass_fields__]


@register("phx_protocol")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    global _is_shown
    _is_shown = True
    project = getattr(settings, "PHX_PROTOCOL", {})
    if not isinstance(project, dict):
        return [Error("PHX_PROTOCOL must be a dict.", id="phx_protocol.E001")]
    errors = [*_keys(project), *_types(project)]
    if errors:
        return errors  # the other checks need valid settings
    layer = [*_layer()]
    return [
        *_channels(options().channels, "CHANNELS"),
        *_sockets(),
        *_values(Socket),
        *_parts("DRAINER", options().drainer, DRAINER),
        *layer,
        *(() if any(isinstance(found, Error) for found in layer) else _state()),
    ]


def report() -> None:
    """Log the errors and warnings that ``manage.py check`` shows, once a process; never raise.

    Log nothing if a command of manage.py, such as runserver, has shown them before.
    """
    if _is_shown:
        return
    try:
        for found in check_settings():
            if found.is_serious(WARNING) and not found.is_silenced():
                logger.log(
                    found.level, "%s: %s %s", found.id, found.msg, found.hint or ""
                )
    except Exception:
        logger.exception("the system checks crashed")


def _keys(project: dict[str, Any]) -> Iterator[CheckMessage]:
    for key in project:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, 1)
            hint = (
                f"Did you mean {close[0]}?"
                if close
                else f"The keys are {', '.join(KEYS)}."
            )
            yield Error(
                f"PHX_PROTOCOL has no key {key!r}.", hint=hint, id="phx_protocol.E002"
            )


def _types(project: dict[str, Any]) -> Iterator[CheckMessage]:
    for key, types in TYPES.items():
        value = project.get(key, None)
        if value is None:
            continue
        wrong = not isinstance(value, types) or (
            isinstance(value, bool) and bool not in types
        )
        if wrong or (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and value <= 0
        ):
            names = " or ".join(t.__name__ for t in types)
            yield Error(
                f"PHX_PROTOCOL[{key!r}] must be a {names} (above 0 for a number), not {value!r}.",
                hint="Times are in seconds, sizes in bytes.",
                id="phx_protocol.E003",
            )


def _channels(channels: Mapping[str, Any], where: str) -> Iterator[CheckMessage]:
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


def _sockets() -> Iterator[CheckMessage]:
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
            yield from _channels(
                socket_class.channels, f"{socket_class.__name__}.channels"
            )
        if socket_class is not Socket:
            yield from _values(socket_class)
            yield from _decorators(socket_class, ["connect"])


def _values(socket_class: type[Socket]) -> Iterator[CheckMessage]:
    """Check the settings that can be wrong although their type is right."""
    chosen = options(socket_class)
    outbound = chosen.outbound
    if set(outbound) != set(OUTBOUND) or outbound["hard_bytes"] < outbound["bytes"]:
        yield Error(
            f"OUTBOUND must have the keys {', '.join(OUTBOUND)}, hard_bytes not below bytes.",
            hint=f"The default is {OUTBOUND}.",
            id="phx_protocol.E007",
        )
    yield from _transports(chosen)
    names = chosen.filter_parameters
    if isinstance(names, Mapping) and set(names) != {"keep"}:
        yield Error(
            f"FILTER_PARAMETERS cannot be {names!r}.",
            hint='Use a list of names, or {"keep": [names of all that may be logged]}.',
            id="phx_protocol.E014",
        )
    try:
        parse_rates(chosen.throttle)
    except (ValueError, AttributeError) as error:
        yield Error(
            f"THROTTLE: {error}",
            hint='Write "200/s" or {"phx_join": "10/s", "*": "200/s"}.',
            id="phx_protocol.E013",
        )
    if not _check_origin_is_valid(chosen.check_origin):
        yield Error(
            f"CHECK_ORIGIN cannot be {chosen.check_origin!r}.",
            hint='Use True, False, "conn", a list such as ["https://a.com", "//*.b.com", "null"], or a callable.',
            id="phx_protocol.E008",
        )
    names_of = chosen.subprotocols
    if names_of is not None and not _are_names(names_of):
        yield Error(
            f"SUBPROTOCOLS must be a list of names, not {names_of!r}.",
            hint='Write ["mqtt"]: letters, digits and punctuation but for commas. Or None.',
            id="phx_protocol.E003",
        )
    for requirement, target in chosen.serializers.items():
        try:
            parse_requirement(requirement)
            import_string(target) if isinstance(target, str) else target
        except (ValueError, ImportError) as error:
            hint = 'Map "~> 2.0.0" to the dotted path of a serializer class.'
            yield Error(
                f"SERIALIZERS[{requirement!r}]: {error}",
                hint=hint,
                id="phx_protocol.E009",
            )


def _transports(chosen: Options) -> Iterator[CheckMessage]:
    yield from _parts("WEBSOCKET", chosen.websocket, WEBSOCKET)
    yield from _parts("LONGPOLL", chosen.longpoll, LONGPOLL)
    window = (chosen.longpoll or {}).get("WINDOW", 0)
    if _is_like(window, 20) and window >= 20:
        yield Error(
            f"LONGPOLL['WINDOW'] is {window} seconds; phoenix.js gives up after 20.",
            hint="Stay well below 20, or set longpollerTimeout (milliseconds) in every client.",
            id="phx_protocol.E012",
        )


def _parts(
    name: str, chosen: Any, default: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    """Check a setting that is False, or a dict with keys and values like those of `default`."""
    wrong = {
        key: value
        for key, value in (chosen or {}).items()
        if key not in default or not _is_like(value, default[key])
    }
    if wrong:
        yield Error(
            f"{name} has the keys {', '.join(default)}, numbers above 0; not {wrong!r}.",
            hint=f"True stands for {dict(default)}.",
            id="phx_protocol.E012",
        )


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, str):
        return isinstance(value, str) and value.strip("/") != ""
    return isinstance(value, (int, float)) and value > 0


def _check_origin_is_valid(value: Any) -> bool:
    if isinstance(value, bool) or value == "conn" or callable(value):
        return True
    if isinstance(value, str):
        try:
            return callable(import_string(value))
        except ImportError:
            return False
    return isinstance(value, (list, tuple)) and all(map(_is_origin, value))


def _is_origin(entry: Any) -> bool:
    """Return whether an Origin can match `entry`; "null" is the Origin of pages without a host."""
    if not isinstance(entry, str) or ("//" not in entry and entry != "null"):
        return False
    try:
        Place.of(entry)
    except ValueError:
        return False
    return True


def _are_names(value: Any) -> bool:
    """Return whether `value` is a list of names that Sec-WebSocket-Protocol may contain."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(name, str) and re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII)
        for name in value
    )


def _layer() -> Iterator[CheckMessage]:
    alias = options().channel_layer
    configured = getattr(settings, "CHANNEL_LAYERS", {})
    # who has chosen the local bus knows what a layer in memory does
    is_alone = not settings.DEBUG and not options().local_bus
    if alias not in configured:
        if alias != "default":
            hint = f"CHANNEL_LAYERS has {', '.join(configured) or 'nothing'}."
            yield Error(
                f"CHANNEL_LAYERS has no {alias!r}.", hint=hint, id="phx_protocol.E010"
            )
        elif is_alone:
            yield Warning(
                "There is no channel layer: broadcasts stay in the process that makes them.",
                hint="Configure phx_protocol.layers.RedisLayer as CHANNEL_LAYERS['default'].",
                id="phx_protocol.W001",
            )
        return
    try:
        layer = channel_layers[alias]
    except Exception as error:
        yield Error(f"CHANNEL_LAYERS[{alias!r}]: {error!r}", id="phx_protocol.E011")
        return
    if isinstance(layer, InMemoryChannelLayer) and is_alone:
        yield Warning(
            "The channel layer is in-memory: broadcasts stay in the process that makes them.",
            hint="Use phx_protocol.layers.RedisLayer when there is more than one process.",
            id="phx_protocol.W002",
        )
    if type(layer).__name__ == "RedisChannelLayer" and layer.capacity < 1000:
        yield Warning(
            f"RedisChannelLayer drops messages in silence beyond its capacity of {layer.capacity}.",
            hint="Set CONFIG['capacity'] to 1000 or more, or use phx_protocol.layers.RedisLayer.",
            id="phx_protocol.W003",
        )
    if any(c.__module__.startswith("channels_redis.") for c in type(layer).__mro__):
        yield Info(
            "The layers of channels_redis wait for each round trip to Redis, and the one over "
            "pub/sub answers a join before messages of other processes arrive.",
            hint="phx_protocol.layers.RedisLayer does neither. With the pub/sub layer of "
            "channels_redis you can change one process after the other.",
            id="phx_protocol.I001",
        )


def _state() -> Iterator[CheckMessage]:
    state = options().state
    known = {
        "BACKEND": state["BACKEND"] in ("auto", "memory", "redis"),
        "HOSTS": isinstance(state["HOSTS"], (list, tuple, type(None))),
        "PREFIX": isinstance(state["PREFIX"], (str, type(None))),
        "LEASE": _is_like(state["LEASE"], STATE["LEASE"]),
        "TIMEOUT": _is_like(state["TIMEOUT"], STATE["TIMEOUT"]),
    }
    wrong = {key: value for key, value in state.items() if not known.get(key)}
    if wrong:
        yield Error(
            f"STATE cannot have {wrong!r}.",
            hint=f'Write "auto", "memory", "redis", or change some of {STATE}.',
            id="phx_protocol.E015",
        )
        return
    try:
        get_state()
    except (StateError, ImportError, ValueError) as error:
        hint = 'Name the servers, as for the channel layer: {"HOSTS": ["redis://..."]}.'
        yield Error(f"STATE: {error}", hint=hint, id="phx_protocol.E015")
        return
    layer = get_channel_layer(options().channel_layer)
    is_shared = not is_in_memory(layer)
    if is_shared and backend(state) == "memory":
        yield Warning(
            "STATE is in memory: presences and histories end at the process, broadcasts do not.",
            hint='With several processes use {"HOSTS": ["redis://..."]}.',
            id="phx_protocol.W006",
        )
