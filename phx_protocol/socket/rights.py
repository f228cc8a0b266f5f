"""Rights: the current user of one connection, and how often its rights may have changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..auth.permissions import SOURCE, Source, reloaded
from ..auth.users import key_of, primary_key

if TYPE_CHECKING:
    from .socket import Socket


class Rights:
    """Loads the user of a socket again when its rights may have changed.

    An answer about a right holds as long as `generation` stays as it was when it was asked for.
    """

    __slots__ = ("_socket", "generation", "_wanted", "_loaded", "_loading")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.generation = 0  # how often a right of the user may have changed
        # how often the user was wanted as the database has it, and up to which of these
        # times it has been loaded
        self._wanted = 0
        self._loaded = 0
        self._loading: asyncio.Task[None] | None = None

    def have_changed(self) -> None:
        """Let no answer count that was given before this, and load the user before the next one."""
        self.generation += 1
        self._wanted += 1

    async def reload_user(self) -> None:
        """Load the user as the database has it now, or later; raises what the database raises."""
        # no right has changed: ``authorize`` may call this each time it runs
        self._wanted += 1
        await self.are_current()

    async def are_current(self) -> None:
        """Wait until the user is as it was when a right of it changed last, or later.

        One reading at a time serves all who wait; one that began before the change does not count.
        """
        wanted = self._wanted
        while self._loaded < wanted:
            if self._loading is None:
                self._loading = self._socket.__phx__.create_task(self._load_user())
            await asyncio.shield(self._loading)

    async def _load_user(self) -> None:
        socket = self._socket
        wanted, before = self._wanted, key_of(socket)
        try:
            if socket.user is not None:
                socket.scope["user"] = await self._current_user()
            self._loaded = wanted
            # an answer for another user does not count
            self.generation += key_of(socket) != before
        finally:
            self._loading = None

    async def _current_user(self) -> Any:
        """Ask the session or token that named the user, or else the database, who the user is now."""
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
        """The session or token that named the user, unless something else has put another one there since."""
        socket = self._socket
        source: Source | None = socket.scope.get(SOURCE)
        return source if source is not None and source.user is socket.user else None
