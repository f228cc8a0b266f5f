"""Middleware that knows which connection the page of a request has.

::

    MIDDLEWARE = [..., "phx_protocol.middleware.ConnectionMiddleware"]

While it handles a request that names a connection (``identify`` of session.js writes the header),
``broadcast_changes`` leaves out the channels of that connection.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

_current: contextvars.ContextVar[HttpRequest | None]
_current = contextvars.ContextVar("phx_protocol.request", default=None)


class ConnectionMiddleware:
    """Put it below the middleware that sets ``request.session`` and ``request.user``."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(
        self, request: HttpRequest
    ) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        with _handled(request):
            response: HttpResponseBase = self._get_response(request)
            return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with _handled(request):
            response: HttpResponseBase = await self._get_response(request)
            return response


@contextlib.contextmanager
def _handled(request: HttpRequest) -> Iterator[None]:
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def current_request() -> HttpRequest | None:
    """Return the request that is handled now; None outside of one, or without the middleware."""
    return _current.get()
