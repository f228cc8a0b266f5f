"""Rights: the current user of one connection, and how often the user's rights may have changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..auth.credentials import Claim, Credential
from ..auth.digests import digest
from ..auth.permissions import SOURCE, Source, reloaded
from ..auth.users import key_of, primary_key

if TYPE_CHECKING:
    from .socket import Socket


class Rights:
    """Loads the user of a socket again when its rights may have changed.

    The result of a check counts only while `generation` is the same as at its beginning.
    """

    __slots__ = (
        "_socket",
        "generation",
        "expires_at",
        "claim",
        "_token",
        "_wanted",
        "_loaded",
        "_loading",
    )

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        #: seconds of the epoch until when the client may be here; None for ever
        self.expires_at: float | None = None
        #: the claim of the current token; None without a token
        self.claim: Claim | None = None
        self._token: str | None = None  # a digest of it
        self.generation = 0  # how often a right of the user may have changed
        # how often a reload of the user was asked for, and how many of these are done
        self._wanted = 0
        self._loaded = 0
        self._loading: asyncio.Task[None] | None = None

    def have_changed(self) -> None:
        """Invalidate all earlier checks, and reload the user before the next one."""
        self.generation += 1
        self._wanted += 1

    async def reload_user(self) -> None:
        """Load the user from the database again. Raises the errors of the database."""
        # leave `generation` as it is: ``authorize`` may call this each time it runs
        self._wanted += 1
        await self.are_current()

    async def are_current(self) -> None:
        """Wait until the user was loaded after the last change of its rights.

        One load serves all callers that wait. A load that began before the change does not count.
        """
        wanted = self._wanted
        while self._loaded < wanted:
            if self._loading is None:
                self._loading = self._socket.__phx__.create_task(self._load_user())
            await asyncio.shield(self._loading)

    def are_of(self, token: str) -> bool:
        """Return whether they come from this `token`."""
        return self._token == digest(token)

    async def read(self, token: str) -> Credential:
        """Return what `token` says. Raises BadSignature if it is not valid, or was revoked.

        Raises ConnectionRefused if that cannot be found out now.
        """
        socket: Any = self._socket
        node = socket.__phx__.node  # not later: the client may go meanwhile
        credential: Credential = await socket.read_token(token)
        await node.check(Claim.of(token, credential))
        return credential

    async def take(self, token: str, credential: Credential) -> None:
        """Let `token`, which was read elsewhere, count. Raises as ``read`` does."""
        socket: Any = self._socket
        await socket.__phx__.node.check(Claim.of(token, credential))
        self.adopt(token, credential)

    async def check(self) -> None:
        """Raise BadSignature if the token that counts was revoked meanwhile."""
        socket: Any = self._socket
        if self.claim is not None:
            await socket.__phx__.node.check(self.claim)

    def adopt(self, token: str, credential: Credential) -> None:
        """Let `token` count from now on, which says what `credential` has."""
        scope = self._socket.scope
        scope["user"], self._token = credential.user, digest(token)
        self.claim = Claim.of(token, credential)
        if credential.source is None:
            scope.pop(SOURCE, None)
        else:
            scope[SOURCE] = credential.source
        self._socket.expires_at = credential.expires_at

    async def _load_user(self) -> None:
        socket = self._socket
        wanted, before = self._wanted, key_of(socket)
        try:
            if socket.user is not None:
                socket.scope["user"] = await self._current_user()
            self._loaded = wanted
            # earlier checks do not count for another user
            self.generation += key_of(socket) != before
        finally:
            self._loading = None

    async def _current_user(self) -> Any:
        """Return the user as it is now, by its session or token if there is one, else from the database."""
        source = self.source
        if source is None:
            return await reloaded(self._socket.user)
        user = await source.load()
        if primary_key(user) != primary_key(
            source.user
        ):  # the session belongs to another user now
            from django.contrib.auth.models import AnonymousUser

            user = AnonymousUser()
        self._socket.scope[SOURCE] = source._replace(user=user)
        return user

    @property
    def source(self) -> Source | None:
        """The session or token that named the user; None if ``scope`` has another user by now."""
        socket = self._socket
        source: Source | None = socket.scope.get(SOURCE)
        return source if source is not None and source.user is socket.user else None
