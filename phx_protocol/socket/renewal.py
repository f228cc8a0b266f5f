"""Renewal: a client sends a new token over its living connection."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.signing import BadSignature

from ..auth.credentials import Credential
from ..auth.denials import ENOUGH
from ..auth.digests import digest
from ..auth.users import key_of, primary_key
from ..concurrency.tasks import CRASHES, must_end
from ..exceptions import ConnectionRefused
from ..logs import get_logger
from ..wire.messages import ACCESS_TOKEN, Message, Reply
from ..wire.reasons import Refusal

if TYPE_CHECKING:
    from .connection import Connection

logger = get_logger("phx_protocol.socket")

#: seconds between the beginnings of two checks
PAUSE = 1.0
#: most tokens of one client, and messages with them, that wait for a check
MOST_TOKENS, MOST_MESSAGES = 4, 1000
#: the most characters of a token
LONGEST = 16 * 1024


class Check(NamedTuple):
    """A token, and whether it is valid, when that is known; None if it cannot be found out now."""

    token: str
    is_valid: asyncio.Future[bool | None]


class Renewal:
    """Checks the new tokens of one client: one at a time, and at most one a second.

    A check answers all messages with its token, such as those of 100 channels.
    """

    __slots__ = (
        "_connection",
        "_checks",
        "_waiting",
        "_task",
        "_next_at",
        "_refused",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # digest -> the check that runs, and those that come after it
        self._checks: dict[str, Check] = {}
        self._waiting = 0  # how many messages wait for a check
        self._task: asyncio.Task[None] | None = None
        self._next_at = 0.0
        self._refused = 0  # how many tokens in a row

    def ask(self, message: Message, join_ref: Any) -> None:
        """Answer `message` now if its token counts already, else when it was checked."""
        token = _token_of(message.payload)
        if token is None:
            return self._answer(message, join_ref, False)
        if self._connection.rights.are_of(token):
            return self._answer(message, join_ref, True)
        check = self._check(token)
        if check is None:
            return self._connection.refuse_for(PAUSE, message, join_ref)

        def answer(is_valid: asyncio.Future[bool | None]) -> None:
            self._waiting -= 1
            if not is_valid.cancelled():
                self._answer(message, join_ref, is_valid.result())

        self._waiting += 1
        check.add_done_callback(answer)

    async def check_join(self, payload: Any) -> None:
        """Check the token in the payload of a join, if there is a new one; a bad one changes nothing."""
        token = _token_of(payload)
        if token is None or self._connection.rights.are_of(token):
            return
        if check := self._check(token):
            await asyncio.wait({check})

    def _check(self, token: str) -> asyncio.Future[bool | None] | None:
        """Return whether `token` is valid, later; None if too much waits already."""
        key = digest(token)
        if check := self._checks.get(key):
            return check.is_valid if self._waiting < MOST_MESSAGES else None
        if len(self._checks) >= MOST_TOKENS:
            return None
        is_valid = asyncio.get_running_loop().create_future()
        self._checks[key] = Check(token, is_valid)
        if self._task is None:
            self._task = self._connection.create_task(self._run())
        return is_valid

    async def _run(self) -> None:
        try:
            while self._checks:
                key, check = next(iter(self._checks.items()))
                await asyncio.sleep(self._next_at - time.monotonic())
                self._next_at = time.monotonic() + PAUSE
                is_valid = await self._is_valid(check.token)
                if is_valid is not None:
                    self._refused = 0 if is_valid else self._refused + 1
                del self._checks[key]
                check.is_valid.set_result(is_valid)
        finally:
            self._task = None
            for check in self._checks.values():
                check.is_valid.cancel()
            self._checks.clear()

    async def _is_valid(self, token: str) -> bool | None:
        """Check `token`; let it count if it ends later than the one that does."""
        name = type(self._connection.socket).__name__
        try:
            credential = await self._connection.rights.read(token)
            return await self._adopt(token, credential)
        except BadSignature as error:
            logger.warning("%s: a new token is refused: %s", name, error)
            return False
        except ConnectionRefused as error:
            logger.warning("%s: a new token is refused for now: %s", name, error.reason)
        except CRASHES as error:
            if must_end(error):
                raise
            logger.exception("%s: a new token could not be checked", name)
        return None

    async def _adopt(self, token: str, credential: Credential) -> bool:
        connection = self._connection
        if primary_key(credential.user) != key_of(connection.socket):
            logger.warning("closing a connection: a new token names another user")
            connection.cut_off()
            return False
        if credential.outlives(connection.rights.expires_at):
            connection.rights.adopt(token, credential)
            await connection.reauthorize()
        return True

    def _answer(self, message: Message, join_ref: Any, is_valid: bool | None) -> None:
        connection = self._connection
        if is_valid is None:
            connection.refuse(message, Refusal.UNAVAILABLE, join_ref)
        elif is_valid:
            end = connection.rights.expires_at
            # for clients whose clocks are wrong
            left = None if end is None else max(0.0, round(end - time.time(), 3))
            reply = {"expires_at": end, "expires_in": left}
            refs = join_ref, message.ref
            connection.push(Reply(*refs, message.topic, "ok", reply))
        else:
            more = {"permanent": True} if self._refused >= ENOUGH else {}
            connection.refuse(message, Refusal.INVALID_TOKEN, join_ref, **more)


def _token_of(payload: Any) -> str | None:
    """Return the token in the payload of a client, or None."""
    token = payload.get(ACCESS_TOKEN) if isinstance(payload, dict) else None
    return token if isinstance(token, str) and 0 < len(token) <= LONGEST else None
