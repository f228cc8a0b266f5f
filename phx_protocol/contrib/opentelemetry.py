"""Traces for OpenTelemetry: connect, join, handle_in, and broadcasts to other processes.

In asgi.py, after the code that sets up the tracer provider::

    from phx_protocol.contrib import opentelemetry

    opentelemetry.instrument()

A span is current while user code runs, so that its database queries are traced below it. A join
and an event begin traces of their own, with a link to the connection: a span that lasts for a day
is not a useful parent. docs/metrics.md has the list of spans.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import msgspec
from django.core.exceptions import ImproperlyConfigured

from .. import signals
from ..api import broadcasts
from ..exceptions import ConnectionRefused
from ..pubsub.pubsub import PubSub
from ..pubsub.registry import Subscriber
from ..socket.channel import Channel
from ..socket.mailbox import Delivery
from ..socket.server import ChannelServer
from ..transports.handshake import Handshake
from ..version import __version__
from ..wire.messages import Broadcast, Message

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
except ImportError as error:
    raise ImproperlyConfigured(
        "phx_protocol.contrib.opentelemetry needs opentelemetry-api: "
        "pip install 'phx_protocol[opentelemetry]'"
    ) from error

Wrap = Callable[[trace.Tracer, Any], Any]
Started = AbstractContextManager[Span]

# The span of ``connect``: all code that runs in the context of the connection inherits it.
_connection: ContextVar[SpanContext | None] = ContextVar(
    "phx_protocol.connection", default=None
)


def instrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Trace from now on, with the global tracer provider if none is given."""
    uninstrument()
    tracer = trace.get_tracer("phx_protocol", __version__, tracer_provider)
    for (owner, name), wrap in WRAPPED.items():
        original = _originals[owner, name] = vars(owner)[name]
        setattr(owner, name, functools.wraps(original)(wrap(tracer, original)))
    for signal, receiver in RECEIVERS.items():
        signal.connect(receiver)


def uninstrument() -> None:
    """Undo ``instrument``: stop tracing."""
    for signal, receiver in RECEIVERS.items():
        signal.disconnect(receiver)
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()


_originals: dict[tuple[Any, str], Any] = {}

# ------------------------------------------------------------------- connections


def _admit(tracer: trace.Tracer, original: Any) -> Any:
    async def admit(self: Handshake, auth_token: str | None, transport: str) -> Any:
        with _connecting(tracer, self, transport) as span:
            _connection.set(span.get_span_context())
            try:
                return await original(self, auth_token, transport)
            except ConnectionRefused as refused:
                span.set_attribute("http.response.status_code", refused.status)
                if refused.status >= 500:
                    _fail(span, refused.__cause__ or refused)
                raise

    return admit


def _connecting(tracer: trace.Tracer, handshake: Handshake, transport: str) -> Started:
    """Start a span below that of another tracer in this process, or else below the proxy's."""
    socket_class = handshake.socket_class
    is_traced = trace.get_current_span().get_span_context().is_valid
    headers = dict(handshake.info.headers)
    attributes = {
        "phx.socket": _dotted(socket_class),
        "phx.transport": transport,
        "url.path": handshake.scope["path"],
    }
    return tracer.start_as_current_span(
        f"connect {socket_class.__name__}",
        None if is_traced else propagate.extract(headers),
        SpanKind.INTERNAL if is_traced else SpanKind.SERVER,
        attributes,
        record_exception=False,  # a refusal is not an error
        set_status_on_exception=False,
    )


# ---------------------------------------------------------------------- channels


def _join(tracer: trace.Tracer, original: Any) -> Any:
    async def join(self: ChannelServer, message: Message) -> None:
        with _serving(tracer, "join", SpanKind.SERVER, self, message.event):
            await original(self, message)

    return join


def _handle_in(tracer: trace.Tracer, original: Any) -> Any:
    async def handle_in(self: ChannelServer, message: Message) -> None:
        with _serving(tracer, "handle_in", SpanKind.SERVER, self, message.event):
            await original(self, message)

    return handle_in


def _handle_out(tracer: trace.Tracer, original: Any) -> Any:
    async def handle_out(self: ChannelServer, mail: Delivery) -> None:
        channel: Channel = mail.receiver
        broadcast: Broadcast = mail.message
        traced = broadcast.event, broadcast.headers
        if (
            channel is not self.channel
            or broadcast.event not in channel.__phx_tables__.intercepts
        ):
            await original(self, mail)  # no user code runs
        else:
            with _serving(tracer, "handle_out", SpanKind.CONSUMER, self, *traced):
                await original(self, mail)

    return handle_out


def _handle_info(tracer: trace.Tracer, original: Any) -> Any:
    async def handle_info(self: ChannelServer, mail: Delivery) -> None:
        message = mail.message
        is_broadcast = isinstance(message, Broadcast)
        traced = (message.event, message.headers) if is_broadcast else ()
        with _serving(tracer, "handle_info", SpanKind.CONSUMER, self, *traced):
            await original(self, mail)

    return handle_info


def _serving(
    tracer: trace.Tracer,
    operation: str,
    kind: SpanKind,
    server: ChannelServer,
    event: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Started:
    """Start a span of a channel: below the broadcast with `headers`, or else as a new trace."""
    channel_class, connection = server.route.channel_class, _connection.get()
    attributes = _attributes(server.topic, event, operation, "process")
    return tracer.start_as_current_span(
        f"{operation} {channel_class.__name__}",
        propagate.extract(headers or {}, Context()),
        kind,
        {**attributes, "phx.channel": _dotted(channel_class)},
        [Link(connection)] if connection is not None else (),
    )


# -------------------------------------------------------------------- broadcasts


def _publish(tracer: trace.Tracer, original: Any) -> Any:
    async def publish(
        self: PubSub,
        broadcast: Broadcast,
        history: Any,
        exclude: Subscriber | None = None,
    ) -> Any:
        attributes = _attributes(broadcast.topic, broadcast.event, "broadcast", "send")
        size = {"messaging.message.body.size": len(memoryview(broadcast.payload))}
        with tracer.start_as_current_span(
            "broadcast", None, SpanKind.PRODUCER, {**attributes, **size}
        ):
            return await original(self, _carrying(broadcast), history, exclude)

    return publish


def _trace_headers(tracer: trace.Tracer, original: Any) -> Any:
    def trace_headers() -> dict[str, str] | None:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        return headers or None

    return trace_headers


def _deliver_local(tracer: trace.Tracer, original: Any) -> Any:
    def deliver_local(
        self: PubSub,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = False,
    ) -> None:
        rest = exclude, strict
        # without headers, as for a diff of presences, there is no trace to continue
        if not broadcast.headers or broadcast.topic not in self.registry:
            original(self, broadcast, *rest)
        else:
            with _delivering(tracer, broadcast) as span:
                before = self._delivered
                original(self, _carrying(broadcast), *rest)
                span.set_attribute("phx.subscribers", self._delivered - before)

    return deliver_local


def _delivering(tracer: trace.Tracer, broadcast: Broadcast) -> Started:
    """Start a span below the broadcast's own, which may be in another process."""
    attributes = _attributes(broadcast.topic, broadcast.event, "deliver", "process")
    parent = propagate.extract(broadcast.headers or {}, Context())
    kind = SpanKind.CONSUMER
    return tracer.start_as_current_span("deliver", parent, kind, attributes)


def _carrying(broadcast: Broadcast) -> Broadcast:
    """Return `broadcast` with the current span in its headers."""
    headers = dict(broadcast.headers or {})
    propagate.inject(headers)
    return msgspec.structs.replace(broadcast, headers=headers)


# ------------------------------------------------------ the attributes of spans


def _attributes(topic: str, event: Any, name: str, kind: str) -> dict[str, str]:
    """Return the attributes that OpenTelemetry defines for messaging."""
    attributes = {
        "messaging.system": "phoenix",
        "messaging.destination.name": topic,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    if isinstance(event, str):  # a client may send anything
        attributes["phx.event"] = event
    return attributes


def _dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _fail(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


# These receivers are called while the span of the join, or of the event, is current.


def _joined(sender: Any, result: str, **kwargs: Any) -> None:
    trace.get_current_span().set_attribute("phx.result", result)


def _handled_in(sender: Any, status: str | None, **kwargs: Any) -> None:
    if status is not None:
        trace.get_current_span().set_attribute("phx.status", status)


def _crashed(sender: Any, exception: BaseException, **kwargs: Any) -> None:
    _fail(trace.get_current_span(), exception)


RECEIVERS: dict[signals.Signal, Callable[..., None]] = {
    signals.channel_joined: _joined,
    signals.channel_handled_in: _handled_in,
    signals.channel_crashed: _crashed,
}

#: what ``instrument`` wraps, methods and a function; a test checks their names and parameters
WRAPPED: dict[tuple[Any, str], Wrap] = {
    (Handshake, "admit"): _admit,
    (ChannelServer, "_join"): _join,
    (ChannelServer, "_handle_in"): _handle_in,
    (ChannelServer, "_handle_out"): _handle_out,
    (ChannelServer, "_handle_info"): _handle_info,
    (PubSub, "publish"): _publish,
    (PubSub, "deliver_local"): _deliver_local,
    (broadcasts, "trace_headers"): _trace_headers,
}
