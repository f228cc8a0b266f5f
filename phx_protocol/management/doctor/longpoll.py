"""The checks of long-poll: each request of a session uses a connection of its own."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import time
from typing import Any

from phx_protocol.wire.messages import HEARTBEAT, HEARTBEAT_TOPIC, Message
from phx_protocol.wire.serializers import V2JSONSerializer

from . import advice
from .findings import CheckFailed, Verdict, fault, ok, skipped
from .http import REQUEST_TIMEOUT, Response, request, said
from .site import Site
from .slow import TooSlow, must_be_soon

#: requests of one session, enough to reach every process of a site by chance
REQUESTS = 8
#: seconds that a poll gets to arrive before a message is sent for it
HEAD_START = 0.3

WIRE = V2JSONSerializer()


class NoSession(CheckFailed):
    """The answer is not one of long-poll; `status` is that of HTTP, or of the body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, advice.ANSWER.get(status, advice.OTHER_STATUS))
        self.status = status


class Session:
    """A long-poll session as phoenix.js uses it.

    Every method raises NoSession, OSError, HTTPException, and TooSlow if there is no answer at all.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.token = ""
        self._refs = itertools.count(1)

    async def open(self) -> Session:
        answer = await self.poll()
        if answer["status"] != 410 or not self.token:
            reason = answer.get("reason", "")
            message = f"answered with the status {answer['status']} {reason}"
            raise NoSession(answer["status"], message.strip())
        return self

    async def poll(self, wait: float = 0.0) -> dict[str, Any]:
        """Poll for at most `wait` seconds. Raise TimeoutError after these."""
        answer = await self._ask("GET", wait=wait)
        self.token = answer.get("token", self.token)
        return answer

    async def send_heartbeat(self) -> dict[str, Any]:
        beat = Message(None, str(next(self._refs)), HEARTBEAT_TOPIC, HEARTBEAT, {})
        frame = WIRE.encode(beat)
        assert isinstance(frame, str)
        return await self._ask("POST", frame.encode())

    async def _ask(
        self, method: str, body: bytes = b"", wait: float = 0.0
    ) -> dict[str, Any]:
        known = {"token": self.token} if self.token else {}
        target = self.site.target("longpoll", vsn="2.0.0", **known)
        headers = {"Content-Type": "application/x-ndjson"} if body else {}
        if self.site.auth_token is not None:
            headers["X-Phoenix-AuthToken"] = self.site.auth_token
        timeout = wait or REQUEST_TIMEOUT
        try:
            response = await request(self.site, method, target, body, headers, timeout)
        except TimeoutError as error:
            if wait:
                raise
            raise TooSlow("an answer", timeout) from error
        return _read(response)


def _read(response: Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.body)
        if response.status == 200 and isinstance(answer["status"], int):
            return dict(answer)
    except (ValueError, LookupError, TypeError):
        pass
    more = response.headers.get("Location") or said(response.body)
    raise NoSession(response.status, f"answered {response.status} {more}".strip())


async def opening(site: Site) -> Verdict:
    """Open two sessions with the same URL: no cache may give both clients the same one."""
    try:
        one, two = await Session(site).open(), await Session(site).open()
    except NoSession as error:
        if error.status != 404:
            raise
        return skipped("the site serves none (404)", advice.LONGPOLL_OFF)
    except (OSError, http.client.HTTPException) as error:
        return fault(str(error) or type(error).__name__, advice.ANSWER[None])
    if one.token == two.token:
        return fault("two clients got the same session", advice.CACHE)
    return ok("sessions open")


async def connections(site: Site) -> Verdict:
    """Send several requests of one session: each may reach another process."""
    session = await Session(site).open()
    for number in range(1, REQUESTS + 1):
        status = (await session.send_heartbeat())["status"]
        if status != 200:
            message = f"request {number} of a new session is answered {status}"
            return fault(f"{message}: the session is lost", advice.LOST_SESSION)
    missing = REQUESTS
    while missing > 0:
        answer = await session.poll()
        if answer["status"] != 200:
            message = f"a poll of a new session is answered {answer['status']}"
            return fault(f"{message}: the session is lost", advice.LOST_SESSION)
        missing -= len(answer["messages"])
    return ok(f"a session lives on over {REQUESTS} connections")


async def delay(site: Site) -> Verdict:
    """Measure an answer that the site can give at once; try again, as one may be slow by chance."""
    try:
        return await _delay(site)
    except TooSlow:
        return await _delay(site)


async def _delay(site: Site) -> Verdict:
    started = time.monotonic()
    session = await Session(site).open()
    must_be_soon("opening a session", time.monotonic() - started)
    poll = asyncio.create_task(session.poll(wait=2 * REQUEST_TIMEOUT))
    await asyncio.sleep(HEAD_START)
    started = time.monotonic()
    what = "the answer to a poll for which there is a message"
    try:
        sent, answer = await asyncio.gather(session.send_heartbeat(), poll)
    except TimeoutError as error:
        raise TooSlow(what, 2 * REQUEST_TIMEOUT) from error
    took = time.monotonic() - started
    must_be_soon(what, took)
    if (sent["status"], answer["status"]) != (200, 200):
        return ok("none, but the session is lost")  # the next check reports that
    return ok(f"a poll gets a message in {took * 1000:.0f} ms")


async def window(site: Site) -> Verdict:
    """Check that no proxy ends a poll before the site answers it."""
    session = await Session(site).open()
    started = time.monotonic()
    try:
        status = (await session.poll(wait=site.idle))["status"]
    except TimeoutError:
        return ok(f"a poll waits for {site.idle:g} s and more")
    except NoSession as error:
        status = error.status
    except (OSError, http.client.HTTPException):
        status = 0
    waited = time.monotonic() - started
    if status == 204:
        return ok(f"a poll without messages is answered after {waited:.1f} s")
    what = f"answered {status}" if status else "cut off"
    message = f"a poll without messages is {what} after {waited:.1f} s"
    return fault(message, advice.POLL_TIMEOUT)
