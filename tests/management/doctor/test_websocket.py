"""The checks of the WebSocket, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from phx_protocol.management.doctor import Site, longpoll, slow, websocket
from phx_protocol.management.doctor.findings import Status, Verdict
from tests.management.doctor.site import alone, mount, site
from tests.support import servers

__all__ = ["alone", "mount"]


@pytest.mark.parametrize("size, status", [(7000, "fault"), (3500, "warning")])
async def test_a_token_that_is_too_long_for_the_server_is_found(
    mount: str, size: int, status: str
) -> None:
    verdict = await websocket.token_size(site(f"{mount}/open", auth_token="x" * size))
    assert verdict.status is Status(status)
    assert "WEBSOCKETS_MAX_LINE_LENGTH" in verdict.change


async def test_a_token_that_is_refused_has_come_through(mount: str) -> None:
    verdict = await websocket.token_size(site(f"{mount}/guarded"))
    assert verdict.status is Status.OK
    (size,) = re.findall(r"about (\d+)", verdict.message)
    assert 5500 < int(size) < 6100


async def test_a_site_that_lets_foreign_pages_in_is_warned(mount: str) -> None:
    verdict = await websocket.foreign_origin(site(f"{mount}/open"))
    assert verdict.status is Status.WARNING
    assert "CHECK_ORIGIN" in verdict.change


async def test_a_site_with_a_short_timeout_of_its_own_is_a_fault(mount: str) -> None:
    verdict = await websocket.idle_timeout(site(f"{mount}/open", idle=5))
    assert verdict.status is Status.FAULT
    assert 'PHX_PROTOCOL["TIMEOUT"]' in verdict.change


@pytest.mark.parametrize(
    "lasted, code, status",
    [
        (29.9, 1006, Status.FAULT),
        (29.9, 1002, Status.FAULT),
        (30.1, 1006, Status.WARNING),
        (59.4, 1002, Status.WARNING),
        (59.9, 1006, Status.OK),  # nginx's default is 60, and begins before we do
        (60.1, 1002, Status.OK),
        (5.0, 1012, Status.WARNING),  # a restart
    ],
)
def test_a_silent_connection_should_live_for_a_minute(
    lasted: float, code: int, status: Status
) -> None:
    assert websocket.ended(lasted, code).status is status


async def test_a_token_of_our_own_invention_may_be_refused(mount: str) -> None:
    guarded = site(f"{mount}/guarded", params=(("token", "bad"),))
    verdict = await websocket.subprotocol(guarded)
    assert verdict.status is Status.SKIPPED
    assert "--auth-token" in verdict.change


@contextlib.asynccontextmanager
async def slowly(port: int, seconds: float) -> AsyncIterator[str]:
    """A proxy on the way to `port` that passes everything on after so many `seconds`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(seconds)
            writer.write(data)
        writer.close()

    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/socket"


@pytest.mark.parametrize("check", [websocket.delay, longpoll.delay])
async def test_a_proxy_that_holds_messages_back_is_found(
    alone: servers.Server,
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[Site], Awaitable[Verdict]],
) -> None:
    monkeypatch.setattr(slow, "ANSWER_WITHIN", 0.5)
    async with slowly(alone.port, 0.01) as url:
        assert (await check(site(url))).status is Status.OK
    async with slowly(alone.port, 0.3) as url:  # there and back
        with pytest.raises(slow.TooSlow, match="a proxy delays it"):
            await check(site(url))
