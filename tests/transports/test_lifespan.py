"""The lifespan of a process: its sockets end, and the application beside them has its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.routing import ProtocolTypeRouter

from phx_protocol.asgi import get_phoenix_application
from phx_protocol.transports.http import respond
from tests.support.sites import MOUNTS, page


class Server:
    """A server that runs the lifespan of an application."""

    def __init__(self, http: Any) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.state = scope["state"]
        application = get_phoenix_application(MOUNTS, http=http)
        self._application = ApplicationCommunicator(application, scope)

    async def start(self) -> str:
        return await self._tell("lifespan.startup")

    async def stop(self) -> str:
        answer = await self._tell("lifespan.shutdown")
        await self._application.wait()
        return answer

    async def _tell(self, event: str) -> str:
        await self._application.send_input({"type": event})
        return (await self._application.receive_output())["type"]  # type: ignore[no-any-return]


class WithLifespan:
    """An application that has something open while it runs."""

    def __init__(self, failure: str = "") -> None:
        self.is_open = False
        self.failure = failure

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert (await receive())["type"] == "lifespan.startup"
        if self.failure == "startup":
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise RuntimeError("no database")
        self.is_open = True
        scope["state"]["pool"] = "open"
        await send({"type": "lifespan.startup.complete"})
        if self.failure == "running":
            raise RuntimeError("it fell over")
        assert (await receive())["type"] == "lifespan.shutdown"
        self.is_open = False
        await send({"type": "lifespan.shutdown.complete"})


async def test_an_application_beside_the_sockets_has_its_lifespan() -> None:
    beside = WithLifespan()
    server = Server(beside)
    assert await server.start() == "lifespan.startup.complete"
    assert beside.is_open and server.state == {"pool": "open"}
    assert await server.stop() == "lifespan.shutdown.complete"
    assert not beside.is_open


async def test_a_startup_that_fails_is_reported() -> None:
    assert await Server(WithLifespan("startup")).start() == "lifespan.startup.failed"


async def test_a_lifespan_that_crashes_later_is_logged_and_ends_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(WithLifespan("running"))
    assert await server.start() == "lifespan.startup.complete"
    assert await server.stop() == "lifespan.shutdown.complete"
    assert "the lifespan of the other application crashed" in caplog.text


async def raises(scope: dict[str, Any], receive: Any, send: Any) -> None:
    raise ValueError(scope["type"])


async def returns(scope: dict[str, Any], receive: Any, send: Any) -> None:
    return None


async def thinks_it_is_http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await respond(send, 200, b"")


@pytest.mark.parametrize(
    "http",
    [None, raises, returns, thinks_it_is_http, ProtocolTypeRouter({"http": page})],
)
async def test_an_application_without_a_lifespan_is_no_hindrance(http: Any) -> None:
    server = Server(http)
    assert await server.start() == "lifespan.startup.complete"
    await asyncio.sleep(0)
    assert await server.stop() == "lifespan.shutdown.complete"


async def test_a_router_with_a_lifespan_has_it() -> None:
    beside = WithLifespan()
    server = Server(ProtocolTypeRouter({"http": page, "lifespan": beside}))
    await server.start()
    assert beside.is_open
    await server.stop()
    assert not beside.is_open
