"""The application of the tests, inside of middleware that wraps ``send``, as users put it around."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import sentry_sdk
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

from tests.integration.asgi import application
from tests.support.middleware import hidden

Send = Callable[[Any], Awaitable[None]]
sentry_sdk.init(traces_sample_rate=1.0)


class Counting:
    """A wrapper that is an object, and hands on a scope of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        await self.app({**scope, "counting": True}, receive, Counter(send))


class Counter:
    __slots__ = ("_inner", "count")

    def __init__(self, inner: Send) -> None:
        self._inner = inner
        self.count = 0

    async def __call__(self, message: Any) -> None:
        self.count += 1
        await self._inner(message)


def tabled(app: Any) -> Any:
    """A wrapper that looks its ``send`` up in a table."""
    sends: dict[int, Send] = {}

    async def application(scope: dict[str, Any], receive: Any, send: Send) -> None:
        key = id(scope)
        sends[key] = send

        async def looking_up(message: Any) -> None:
            await sends[key](message)

        try:
            await app(scope, receive, looking_up)
        finally:
            del sends[key]

    return application


sentry = SentryAsgiMiddleware(application)
telemetry = OpenTelemetryMiddleware(application, tracer_provider=TracerProvider())
all_of_them = Counting(SentryAsgiMiddleware(OpenTelemetryMiddleware(application)))
by_table = tabled(application)
opaque = hidden(application)
