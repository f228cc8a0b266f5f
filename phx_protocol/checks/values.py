"""The checks of PHX_PROTOCOL and of the settings of a Socket class."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from ..conf import LONGPOLL, OUTBOUND, WEBSOCKET, Options, options
from ..socket.socket import Socket
from ..socket.throttle import parse_rate, parse_rates
from ..transports.addresses import UNIX, network
from ..transports.origin import Place
from ..wire.serializers import parse_requirement

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
    "MAX_CONNECTIONS_PER_USER": (int, type(None)),
    "MAX_CONNECTIONS_PER_ADDRESS": (int, type(None)),
    "REFUSE_NEWEST": (bool,),
    "CONNECT_RATE": (str, type(None)),
    "TRUSTED_PROXIES": (list, tuple),
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
    "TRACK_USERS": (bool,),
    "TRACK_TOPICS": (list, tuple),
    "OFFLINE_AFTER": (int, float),
    "GC_FREEZE": (bool,),
    "LOCAL_BUS": (bool, type(None)),
    "GC_THRESHOLD": (int, type(None)),
    "FILTER_PARAMETERS": (list, tuple, set, frozenset, Mapping),
    "SERIALIZERS": (Mapping,),
    "STATE": (str, Mapping),
    "OUTBOX": (Mapping,),
    "TRANSPORT_LOG": (str, type(None)),
}
KEYS = [name.upper() for name in Options.__dataclass_fields__]


def check_keys(project: dict[str, Any]) -> Iterator[CheckMessage]:
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


def check_types(project: dict[str, Any]) -> Iterator[CheckMessage]:
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


def check_values(socket_class: type[Socket]) -> Iterator[CheckMessage]:
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
    try:
        if chosen.connect_rate is not None:
            parse_rate(chosen.connect_rate)
    except ValueError as error:
        yield Error(
            f"CONNECT_RATE: {error}", hint='Write "10/s".', id="phx_protocol.E013"
        )
    for proxy in chosen.trusted_proxies:
        try:
            if proxy != UNIX:
                network(proxy)
        except ValueError as error:
            yield Error(
                f"TRUSTED_PROXIES: {error}",
                hint='Write addresses and networks: ["10.0.0.7", "10.1.0.0/16", "unix"].',
                id="phx_protocol.E018",
            )
    yield from _proxies(socket_class, chosen)
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


def _proxies(socket_class: type[Socket], chosen: Options) -> Iterator[CheckMessage]:
    """Find a limit by address behind a proxy that is not named."""
    has_limit = chosen.connect_rate or chosen.max_connections_per_address
    has_proxy = settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST
    if has_limit and has_proxy and not chosen.trusted_proxies:
        yield Warning(
            f"{socket_class.__name__} has a limit by address, and the settings know of a proxy, but "
            "TRUSTED_PROXIES is empty: all clients have the proxy's address.",
            hint='Name it: {"TRUSTED_PROXIES": ["10.0.0.7"]}.',
            id="phx_protocol.W008",
        )


def _transports(chosen: Options) -> Iterator[CheckMessage]:
    yield from check_parts("WEBSOCKET", chosen.websocket, WEBSOCKET)
    yield from check_parts("LONGPOLL", chosen.longpoll, LONGPOLL)
    window = (chosen.longpoll or {}).get("WINDOW", 0)
    if is_like(window, 20) and window >= 20:
        yield Error(
            f"LONGPOLL['WINDOW'] is {window} seconds; phoenix.js gives up after 20.",
            hint="Stay well below 20, or set longpollerTimeout (milliseconds) in every client.",
            id="phx_protocol.E012",
        )


def check_parts(
    name: str, chosen: Any, default: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    """Check a setting that is False, or a dict with keys and values like those of `default`."""
    wrong = {
        key: value
        for key, value in (chosen or {}).items()
        if key not in default or not is_like(value, default[key])
    }
    if wrong:
        yield Error(
            f"{name} has the keys {', '.join(default)}, numbers above 0; not {wrong!r}.",
            hint=f"True stands for {dict(default)}.",
            id="phx_protocol.E012",
        )


def is_like(value: Any, default: Any) -> bool:
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
