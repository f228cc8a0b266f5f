"""Handshake: the checks that every transport makes of a request before it opens a socket."""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from channels.exceptions import DenyConnection
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware
from django.utils.module_loading import import_string

from ..concurrency.tasks import CRASHES, must_end
from ..conf import Options, options
from ..exceptions import ConnectionRefused, DecodeError
from ..logs import get_logger
from ..node.node import Node, get_node
from ..pubsub.serving import mount_socket
from ..socket.connect_info import ConnectInfo
from ..socket.opening import Opening
from ..socket.refusals import refusals
from ..socket.socket import Socket
from ..wire.params import decode_query
from ..wire.reasons import Refusal
from ..wire.serializers import DEFAULT_SERIALIZERS, Serializer, for_version
from .admission import Admission
from .authentication import authenticate, bearers
from .origin import names_a_host, origin_is_allowed, page_of
from .request import HandshakeRequest

logger = get_logger("phx_protocol.transport")


class Handshake:
    """The handshake of one request: the transport calls its checks once each, in Phoenix's order.

    A check that fails raises ConnectionRefused.
    """

    def __init__(self, socket_class: type[Socket], scope: dict[str, Any]) -> None:
        mount_socket(socket_class)
        self.requested_at = time.perf_counter()
        self.socket_class = socket_class
        self.scope = scope
        self.options = options(socket_class)
        self.info = ConnectInfo(scope)
        self.params: dict[str, Any] = {}

    def log_request(self) -> None:
        if self.options.transport_log is not None:
            scope, level = self.scope, logging.getLevelName(self.options.transport_log)
            logger.log(
                level,
                "%s %s from %s",
                scope.get("method", scope["type"]),
                scope["path"],
                scope.get("client"),
            )

    def read_params(self) -> None:
        """Decode the query string."""
        try:
            self.params = decode_query(
                self.scope.get("query_string", b""),
                max_keys=self.options.max_params,
                max_depth=self.options.max_params_depth,
            )
        except DecodeError as error:
            logger.warning("%s: refused with 400: %s", self.scope["path"], error)
            raise ConnectionRefused(400, str(error)) from error

    def check_tls(self) -> None:
        """Redirect to https if SECURE_SSL_REDIRECT is on, as Django's SecurityMiddleware does.

        This is Phoenix's ``force_ssl``. A request whose scheme is unknown passes: Daphne does
        not report the scheme of a WebSocket.
        """
        if not settings.SECURE_SSL_REDIRECT:
            return
        request = HandshakeRequest(self.info)
        if request.known_scheme is None:
            return
        try:
            answer = SecurityMiddleware(_no_view).process_request(request)
        except DisallowedHost as error:
            raise ConnectionRefused(400) from error
        if answer is not None:
            logger.warning(
                "%s: not over https (SECURE_SSL_REDIRECT)", self.scope["path"]
            )
            # as Plug.SSL does: after a 301 clients would repeat a POST as a GET
            status = 301 if self.scope.get("method", "GET") in ("GET", "HEAD") else 307
            raise ConnectionRefused(status, headers={"location": answer["Location"]})

    async def check_origin(self) -> None:
        origin, check = self.info.header("origin"), self.options.check_origin
        if origin is None:  # no browser, see origin_is_allowed
            return
        try:
            is_allowed = await origin_is_allowed(origin, check, self.info)
        except Exception as error:
            logger.exception("CHECK_ORIGIN crashed on %.200r", origin)
            raise ConnectionRefused(500) from error
        if not is_allowed:
            logger.error(
                "%s: the Origin %.200r is not allowed (CHECK_ORIGIN)",
                self.scope["path"],
                origin,
            )
            raise ConnectionRefused(403)

    def choose_subprotocol(self) -> str | None:
        """Return the subprotocol to accept, or None (Phoenix's ``check_subprotocols``).

        It is the first that the client offers and SUBPROTOCOLS contains. ``phoenix`` needs no
        entry there: phoenix.js offers it together with its ``authToken``.
        """
        offered: list[str] = self.scope.get("subprotocols") or []
        has_token, allowed = len(bearers(offered)) == 1, self.options.subprotocols
        chosen = next((name for name in offered if name in (allowed or ())), None)
        if chosen is not None or not offered:
            return chosen
        if "phoenix" in offered and (has_token or allowed is not None):
            return "phoenix"
        if has_token or allowed is None:
            return None  # a browser fails the handshake if we accept one that it did not offer
        logger.error(
            "%s: none of %.200r is in SUBPROTOCOLS", self.scope["path"], offered
        )
        raise ConnectionRefused(403)

    async def admit(self, auth_token: str | None, transport: str) -> Opening:
        """Choose the serializer, make the socket and run its ``connect``.

        The Origin must have been checked before.
        """
        vsn = self.params.get("vsn", "1.0.0")
        serializer = _serializer(self.options, vsn) if isinstance(vsn, str) else None
        if serializer is None:
            logger.warning("%s: no serializer for vsn %.100r", self.scope["path"], vsn)
            raise ConnectionRefused(403)
        node = get_node()
        self._check_room(node)
        limits = Admission(node, self.options, self.info)
        await limits.check_rate()
        socket = self._make_socket(auth_token)
        opening = Opening(socket, serializer, transport, node, self.requested_at)
        try:
            await limits.check_address(opening)
            await node.expect_connection(opening)
            await self._authenticate(opening)
            await limits.check_user(opening)
            self._check_room(node)  # other connections may have opened meanwhile
        except BaseException:
            opening.discard()
            raise
        return opening

    def _make_socket(self, auth_token: str | None) -> Socket:
        socket = self.socket_class(self.scope)
        of_url = self.scope.get("url_route", {}).get("kwargs", {})
        socket.auth_token = auth_token
        socket.params = {**self.params, **of_url}
        return socket

    async def _authenticate(self, opening: Opening) -> None:
        try:
            is_known_page = await self._is_known_page()
            await authenticate(self.info, self.params, is_known_page)
            await opening.socket.__phx_connect__()
            await opening.authenticated()
        except DenyConnection as error:
            opening.emit_connected("refused")
            if isinstance(error, ConnectionRefused):
                raise
            raise ConnectionRefused(403) from error
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception("%s.connect crashed", self.socket_class.__name__)
            opening.emit_connected("crashed")
            raise ConnectionRefused(500) from error

    async def _is_known_page(self) -> bool:
        """Return whether CHECK_ORIGIN allows the page of this request, and the page has a host.

        "null" and ``file://`` can be any page, so they do not count.
        """
        page, check = page_of(self.info), self.options.check_origin
        if page is None or check is False or not names_a_host(page):
            return False
        # check_origin has checked an Origin header already
        is_checked = self.info.header("origin") is not None
        return is_checked or await origin_is_allowed(page, check, self.info)

    def _check_room(self, node: Node) -> None:
        if node.drainer.is_on:
            refusals.count(Refusal.DRAINING)
            raise ConnectionRefused(503, Refusal.DRAINING)
        limit = self.options.max_connections
        if limit is not None and len(node.connections) >= limit:
            logger.warning("%s: refused, %d connections", self.scope["path"], limit)
            refusals.count(Refusal.TOO_MANY_CONNECTIONS)
            raise ConnectionRefused(503, Refusal.TOO_MANY_CONNECTIONS)


@functools.lru_cache(maxsize=64)
def _serializer(options: Options, vsn: str) -> Serializer | None:
    return for_version(vsn, _versions(options))


@functools.cache
def _versions(options: Options) -> tuple[tuple[str, Serializer], ...]:
    """Return the versions of the wire protocol that a socket with these settings speaks."""
    custom = options.serializers.items()
    chosen = tuple((vsn, _load(target)()) for vsn, target in custom)
    return chosen or DEFAULT_SERIALIZERS


def _load(target: Any) -> Any:
    return import_string(target) if isinstance(target, str) else target


def _no_view(request: HttpRequest) -> HttpResponse:
    """Stand for the view behind a middleware, which must not be called."""
    raise NotImplementedError
