"""The checks of the WebSocket: does it open, for which pages, and how well does it work."""

from __future__ import annotations

import asyncio
import time

from django.conf import settings

from phx_protocol.exceptions import DecodeError
from phx_protocol.wire.reasons import CloseCode

from . import advice
from .client import Refused, connect, heartbeat
from .findings import Verdict, fault, ok, skipped, warning
from .http import REQUEST_TIMEOUT
from .site import Site
from .slow import must_be_soon

FOREIGN = "https://evil.example"
UNKNOWN = "phx-doctor"
#: characters of an authToken: the most that are tried, and those of a JWT with some claims
MOST_TOKEN, ENOUGH_TOKEN = 20_000, 4_000
#: seconds for an answer to a handshake: some servers never answer if a header is too long
TOKEN_TIMEOUT = 1.5
#: seconds between two heartbeats of phoenix.js, and between three of which one is lost
HEARTBEAT_EVERY, ENOUGH = 30, 60


async def path(site: Site) -> Verdict:
    """Connect without an Origin: that has a check of its own."""
    async with connect(site):
        return ok("upgraded with 101")


async def own_origin(site: Site) -> Verdict:
    try:
        async with connect(site, origin=site.origin):
            return ok(f"{site.origin} may connect")
    except Refused as refused:
        return fault(f"pages of {site.origin} are refused: {refused}", advice.ORIGIN)


async def foreign_origin(site: Site) -> Verdict:
    try:
        async with connect(site, origin=FOREIGN):
            return warning(f"{FOREIGN} may connect", advice.FOREIGN_ORIGIN)
    except Refused as refused:
        if refused.status == 403:
            return ok(f"{FOREIGN} is refused with 403")
        return warning(
            f"{FOREIGN} is not refused with 403: {refused}", advice.OTHER_STATUS
        )


async def subprotocol(site: Site) -> Verdict:
    """Offer the subprotocols of phoenix.js's ``authToken``: browsers fail if none comes back."""
    try:
        async with connect(
            site, auth_token=site.auth_token or "phx_doctor"
        ) as connection:
            if connection.subprotocol == "phoenix":
                return ok(
                    "the site selects 'phoenix' of the subprotocols that an authToken offers"
                )
            said = connection.subprotocol
            return fault(
                f"the site selects {said!r}, not 'phoenix'", advice.SUBPROTOCOL
            )
    except Refused as refused:
        if site.auth_token is None and refused.status in (401, 403):
            return skipped(
                f"the handshake with an invalid token was {refused}",
                "Pass a valid one: --auth-token TOKEN",
            )
        return fault(f"with an authToken: {refused}", advice.SUBPROTOCOL)


async def other_subprotocol(site: Site) -> Verdict:
    """See how the site answers a client that offers a subprotocol it does not know."""
    try:
        async with connect(site, subprotocol=UNKNOWN) as connection:
            if connection.subprotocol is not None:
                said = f"the site selects {connection.subprotocol!r} when {UNKNOWN!r} is offered"
                return fault(said, advice.SUBPROTOCOL)
            return ok(
                "clients with others may connect, and the site selects none (SUBPROTOCOLS is None)"
            )
    except Refused as refused:
        if refused.status == 403:
            return ok(
                "clients with others than those in SUBPROTOCOLS are refused with 403"
            )
        return warning(f"{UNKNOWN!r} offered: {refused}", advice.SUBPROTOCOL)


async def in_the_clear(site: Site) -> Verdict:
    """Check whether a socket opens over http although the site wants https."""
    if not site.has_tls:  # the check "websocket" has seen already that it opens
        if settings.SECURE_SSL_REDIRECT:
            said = "a socket opens over http, and SECURE_SSL_REDIRECT is on"
            return warning(said, advice.UNKNOWN_SCHEME)
        return ok("http is allowed, as SECURE_SSL_REDIRECT is off in these settings")
    try:
        async with connect(site.in_the_clear()):
            return warning(
                f"a socket opens over http on port {site.http_port} as well",
                advice.IN_THE_CLEAR,
            )
    except Refused as refused:
        return ok(f"over http on port {site.http_port}: {refused}")


async def proxy_scheme(site: Site) -> Verdict:
    """Check that the site reads from the proxy's header that TLS was used: "https", or "wss"."""
    if site.has_tls or not settings.SECURE_PROXY_SSL_HEADER:
        return ok("nothing to check here: see 'origin'")
    name, secure = settings.SECURE_PROXY_SSL_HEADER
    name = name.removeprefix("HTTP_").replace("_", "-").title()
    origin = f"https://{site.mount.netloc}"
    for word in (secure, "wss", f"wss,{secure}"):
        try:
            async with connect(site, origin=origin, headers={name: word}):
                pass
        except Refused as refused:
            said = f"'{name}: {word}' and a page of {origin}: {refused}"
            return warning(said, advice.PROXY_SCHEME)
    return ok(f"with '{name}: {secure}', or 'wss', pages over https may connect")


async def token_size(site: Site) -> Verdict:
    """Find how long a token may be: any answer of the site shows that the header reached it."""
    given = site.auth_token
    if given is not None and not await _comes_through(site, given):
        return fault(
            f"the authToken has {len(given)} characters: too many", advice.TOKEN_SIZE
        )
    enough = ENOUGH_TOKEN if given is None else 2 * len(given)
    good, bad = 0 if given is None else len(given), MOST_TOKEN + 1
    if await _comes_through(site, "x" * MOST_TOKEN):
        return ok(f"an authToken may have {MOST_TOKEN} characters and more")
    while bad - good > 250:
        middle = (good + bad) // 2
        if await _comes_through(site, "x" * middle):
            good = middle
        else:
            bad = middle
    message = f"an authToken may have about {good} characters"
    return ok(message) if good >= enough else warning(message, advice.TOKEN_SIZE)


async def _comes_through(site: Site, token: str) -> bool:
    """Return whether the site itself answers a handshake with `token`, and not a proxy."""
    try:
        async with asyncio.timeout(TOKEN_TIMEOUT), connect(site, auth_token=token):
            return True
    except TimeoutError:
        return False
    except Refused as refused:
        return refused.status in (401, 403, 429, 503)


async def version_2(site: Site) -> Verdict:
    return await _version(site, "2.0.0")


async def version_1(site: Site) -> Verdict:
    return await _version(site, "1.0.0")


async def _version(site: Site, vsn: str) -> Verdict:
    try:
        async with connect(site, vsn=vsn) as connection, asyncio.timeout(
            REQUEST_TIMEOUT
        ):
            await heartbeat(connection, vsn)
            return ok("a heartbeat is answered")
    except (Refused, DecodeError, TimeoutError) as error:
        return fault(f"a heartbeat of {vsn} is not answered: {error}", advice.VSN)


async def compression(site: Site) -> Verdict:
    async with connect(site) as connection:
        if connection.protocol.extensions:
            return warning("permessage-deflate is negotiated", advice.COMPRESSION)
        return ok("none, as it should be")


async def delay(site: Site) -> Verdict:
    """Measure the fastest of three heartbeats: a single one may be slow by chance."""
    times = []
    async with connect(site) as connection:
        for _ in range(3):
            started = time.monotonic()
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await heartbeat(connection)
            times.append(time.monotonic() - started)
    must_be_soon("the answer to a heartbeat", min(times))
    return ok(f"a heartbeat is answered in {min(times) * 1000:.0f} ms")


async def idle_timeout(site: Site) -> Verdict:
    """Measure how long a silent connection stays open."""
    async with connect(site) as connection:
        started = time.monotonic()
        try:
            async with asyncio.timeout(site.idle):
                await connection.wait_closed()
        except TimeoutError:
            more = f" (--idle {ENOUGH + 5} shows more)" if site.idle < ENOUGH else ""
            return ok(f"open after {site.idle:g} s of silence{more}")
        lasted = time.monotonic() - started
    return ended(lasted, connection.close_code)


def ended(lasted: float, code: int | None) -> Verdict:
    by_the_site = code == CloseCode.IDLE
    whom = "PHX_PROTOCOL['TIMEOUT'] of the site" if by_the_site else "a proxy"
    change = advice.SITE_TIMEOUT if by_the_site else advice.PROXY_TIMEOUT
    if code not in (CloseCode.IDLE, 1006):
        return warning(f"closed with {code} after {lasted:.1f} s", advice.CAME_BACK)
    message = f"{whom} ends a silent connection after {lasted:.1f} s"
    if lasted < HEARTBEAT_EVERY:
        return fault(f"{message}: before a client's next heartbeat", change)
    if round(lasted) < ENOUGH:
        return warning(f"{message}: one late heartbeat and clients reconnect", change)
    return ok(message)
