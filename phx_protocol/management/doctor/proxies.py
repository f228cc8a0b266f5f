"""The check of limits by address: is the proxy in front of the site named?"""

from __future__ import annotations

from ...conf import options
from ...socket.routes import load_socket
from . import advice
from .findings import Verdict, ok, skipped, warning
from .http import request
from .site import Site

#: what ASGI servers call themselves; whoever else answers stands before one
SERVERS = ("uvicorn", "daphne", "hypercorn", "granian", "gunicorn")


async def named(site: Site) -> Verdict:
    """Compare what the site's answers say of a proxy with TRUSTED_PROXIES of these settings."""
    classes = map(load_socket, options().sockets.values())
    limited = [o for o in map(options, (None, *classes)) if _limits_addresses(o)]
    if not limited:
        return ok("no limit by address is set")
    try:
        answer = await request(site, "GET", site.target("websocket"))
    except OSError as error:
        return skipped(f"no answer that names a server: {error}")
    server = answer.headers.get("Via") or answer.headers.get("Server") or ""
    if not server or server.lower().startswith(SERVERS):
        return ok("no proxy is seen")
    if all(o.trusted_proxies for o in limited):
        return ok(f"{server[:50]!r} is before the site, and TRUSTED_PROXIES is set")
    return warning(f"{server[:50]!r} is before the site", advice.PROXIES)


def _limits_addresses(chosen: object) -> bool:
    names = ("connect_rate", "max_connections_per_address")
    return any(getattr(chosen, name) is not None for name in names)
