"""The index: what is revoked, as one node knows it."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.signing import BadSignature
from django.db import router

from ..auth.credentials import Claim
from ..concurrency.callbacks import look_up
from ..concurrency.tasks import begin
from ..exceptions import ConnectionRefused
from ..logs import get_logger
from ..logs.outage import Outage
from ..node.connections import Command, OpenSocket, each
from ..node.part import Part
from ..wire.reasons import CloseCode, Reason, Refusal
from .api import COMMAND

if TYPE_CHECKING:
    from ..node.node import Node

logger = get_logger("phx_protocol.socket")

#: seconds for which the index counts after it was read, if no beat reads it again
FRESH = 15.0
#: seconds between two readings at the least: a node without a state beats each second
PAUSE = 2.0
#: seconds between two readings of everything, which forget what was deleted
WHOLE = 300.0
#: seconds that the other readings look back: so long may a transaction last, or clocks differ
OVERLAP = 600.0
#: seconds that a client waits for the database
PATIENCE = 5.0
#: seconds after its end at which a row is deleted; a JWT may be valid some time longer than it says
KEPT = 3600.0

#: kind and key -> when it was revoked
Revoked = dict[tuple[str, str], float]


class Revocations(Part):
    """The index of one node, renewed by each order, by each beat, and when a client comes.

    Nothing is read before the first client with a token comes.
    """

    beats_without_state = True

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._revoked: Revoked = {}
        # of the loop's clock: when the last reading began, and the last of everything
        self._read_at = self._whole_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._ordered: Revoked = {}  # while a reading runs
        self._is_used = False
        self._outage = Outage(
            logger,
            "the revocations cannot be read, clients with tokens are refused",
            "the revocations can be read again",
            _ignore,
            _ignore,
        )

    @property
    def commands(self) -> Mapping[str, Command]:
        return {COMMAND: self._execute}

    def _execute(self, body: dict[str, Any]) -> None:
        found = {(body["kind"], body["key"]): body["revoked_at"]}
        if self._reading is not None:
            self._ordered |= found
        self._take(found)

    def missed_commands(self) -> None:
        self._read_at = -math.inf

    async def beat(self) -> None:
        """Begin to read what is new. It is not awaited: a lease must not depend on a database."""
        is_due = self._age(self._read_at) > PAUSE
        if is_due and self._is_used and self.node.connections.are_any:
            self._read_soon()

    async def check(self, claim: Claim) -> None:
        self._is_used = True
        await self._is_fresh()
        if self._refuses(claim):
            raise BadSignature("the token was revoked")

    # ------------------------------------------------------------ what is known

    def _refuses(self, claim: Claim) -> bool:
        if any(("token", name) in self._revoked for name in claim.names):
            return True
        if claim.user is None:
            return False
        revoked_at = self._revoked.get(("user", claim.user))
        return revoked_at is not None and (
            claim.issued_at is None or claim.issued_at <= revoked_at
        )

    def _take(self, found: Revoked, is_whole: bool = False) -> None:
        """Note what is revoked, and close the sockets that it concerns."""
        has_news = not found.items() <= self._revoked.items()
        if is_whole:
            self._revoked = found
        else:
            for name, revoked_at in found.items():
                # an older order may come later
                known = self._revoked.get(name, revoked_at)
                self._revoked[name] = max(known, revoked_at)
        if has_news:
            each(self.node.connections, self._look)

    def _look(self, socket: OpenSocket) -> None:
        claim = socket.claim
        if claim is not None and self._refuses(claim):
            socket.cut_off(CloseCode.EXPIRED, Reason.REVOKED)

    # ------------------------------------------------------------- the database

    async def _is_fresh(self) -> None:
        """Wait until the index is fresh. Raises ConnectionRefused if the database is away."""
        if self._age(self._read_at) < FRESH:
            return
        await asyncio.wait({self._read_soon()}, timeout=PATIENCE)
        if self._age(self._read_at) >= FRESH:
            raise ConnectionRefused(503, Refusal.UNAVAILABLE)

    def _read_soon(self) -> asyncio.Task[None]:
        """Read; one reading serves all who wait."""
        if self._reading is None:
            self._reading = begin(self._read(), contextvars.Context())
        return self._reading

    async def _read(self) -> None:
        began = self.node.loop.time()
        is_whole = self._age(self._whole_at) > WHOLE
        try:
            since = None if is_whole else time.time() - self._age(self._read_at)
            found = await look_up(_read, since)
            for name, revoked_at in self._ordered.items():
                found[name] = max(found.get(name, revoked_at), revoked_at)
            if is_whole:
                self._whole_at = began
            self._take(found, is_whole)
            self._read_at = began
            self._outage.report(None)
        except Exception as error:
            self._outage.report(error)
        finally:
            self._reading = None
            self._ordered.clear()

    def _age(self, then: float) -> float:
        return self.node.loop.time() - then


def _read(since: float | None) -> Revoked:
    """Read what was revoked since then; None reads everything, and deletes what has ended."""
    from .models import Revocation

    # not a replica, which may lag
    rows = Revocation._default_manager.using(router.db_for_write(Revocation))
    if since is None:
        rows.filter(expires_at__lt=time.time() - KEPT).delete()
    else:
        rows = rows.filter(revoked_at__gt=since - OVERLAP)
    columns = rows.values_list("kind", "key", "revoked_at")
    return {(kind, key): revoked_at for kind, key, revoked_at in columns}


def _ignore(*args: Any, **kwargs: Any) -> None:
    """There is no signal for it."""
