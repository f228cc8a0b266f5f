"""The conformance application with limits that a test can reach, and polls that a test can see."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import parse_qs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.conformance.settings")

from phx_protocol.asgi import Application, get_phoenix_application  # noqa: E402


def observed(application: Application) -> Application:
    """Write to the log when a poll with the parameter ``n`` waits, is answered, or lost its client."""

    async def observing(scope: dict[str, Any], receive: Any, send: Any) -> None:
        query = parse_qs(scope.get("query_string", b"").decode())
        if "n" not in query:
            return await application(scope, receive, send)
        received = 0
        answered = False

        def note(what: str) -> None:
            print("poll", query["n"][0], what, file=sys.stderr, flush=True)

        async def noting_receive() -> Any:
            nonlocal received
            received += 1
            if received == 2:  # the request is there, what may still come is its end
                note("waits")
            message = await receive()
            if message["type"] == "http.disconnect" and not answered:
                note("gone")
            return message

        async def noting_send(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                note("answered")
            await send(message)

        await application(scope, noting_receive, noting_send)

    return observing


application = observed(
    get_phoenix_application(
        {
            "/socket": "tests.integration.sockets.SmallSocket",
            "/polled": "tests.integration.sockets.PolledSocket",
            "/slow": "tests.integration.sockets.PolledSlowlySocket",
            "/hasty": "tests.integration.sockets.HastySocket",
            "/guarded": "tests.integration.sockets.GuardedSocket",
        }
    )
)
