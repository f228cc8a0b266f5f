"""Store: runs scripts on keys under one hash tag, and notices if Redis has lost steps.

Each call has a routing key: the name of a group or topic. It selects one of SLICES hash tags, under which
all keys of the call are, so that keys can be spread over servers. What concerns nodes is under the
tag NODES. Keys carry the version of their layout, and the generation of the store: all slices have
the same one. If one of them lacks steps, a new generation begins, and the whole store is empty. Behind
the generation, each slice has the rings: who knows fewer is refused, and learns them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from redis.exceptions import ResponseError, TimeoutError

from ..exceptions import StateError, StateMoved, StateRefused, StateTimeout
from ..layers.connection import is_moved
from ..layers.slots import TAGS as ALL_TAGS
from ..layers.slots import index_of
from .base import history_expiry
from .client import ERRORS, Client, Word, is_away
from .ledger import Ledger
from .rings import RING, Rings, is_newer
from .scripts import COUNTED, generation, script

if TYPE_CHECKING:
    from .cluster_client import ClusterClient

AnyClient: TypeAlias = "Client | ClusterClient"
Item = TypeVar("Item")

#: the version of the keys: another one sees nothing of these
LAYOUT = "2"
SLICES = 16
TAGS = ALL_TAGS[:: len(ALL_TAGS) // SLICES]
#: the hash tag of what concerns nodes
NODES = "nodes"
#: least seconds for which Redis remembers a generation
REMEMBERED = 2 * history_expiry(0)
#: most generations that begin during one call
TRIES = 10
#: what a site has to change whose state is on one node of a cluster
ONE_OF_MANY = (
    "it is a node of a Redis Cluster, whose address begins with redis+cluster://"
)
#: the first word of an answer to a call that was not done, see lua/begin.lua
MOVED, LOST = -1, -2


class Named(NamedTuple):
    """A key under which something of `name` is kept. It is another one after the name has moved away
    and come back. `was_here` is True for the key from before the latest change of the servers.
    """

    name: str
    key: str
    was_here: bool = False


def tag_of(name: str) -> str:
    """Return the hash tag of the keys of the group or topic `name`."""
    return TAGS[index_of(name.encode(), SLICES)]


class Store:
    """The keys that begin with `prefix`; `expiry` is the seconds for which Redis remembers an author.

    `server` is the id of this server in the rings, and `moved` is called when it is known to be in others.
    """

    def __init__(
        self,
        client: AnyClient,
        prefix: str,
        expiry: float,
        server: str,
        moved: Callable[[Rings], None],
    ) -> None:
        self.client = client
        self.ledger = Ledger(expiry)
        self.rings = Rings([[server]])
        self._server = server
        self._moved = moved
        self._prefix = f"{prefix}{LAYOUT}:"
        self._author_ms = int(expiry * 1000)
        self._remembered = REMEMBERED
        self._remember_at = 0.0

    # ------------------------------------------------------------------------ names

    def key(self, tag: str, name: str) -> str:
        """Return the key `name` of the generation that is known."""
        return f"{self._prefix}{{{tag}}}{self.ledger.generation}:{name}"

    # ------------------------------------------------------------------------ calls

    async def run(
        self,
        tag: str,
        name: str,
        keys: Sequence[str | Named],
        *args: Any,
        lasts: float = 0,
        of: Collection[str] = (),
    ) -> Any:
        """Run a script that may run twice. Raises StateError.

        `lasts` is the number of seconds for which its keys may last; `of` are the topics or users whose
        server this must be, as it must be that of the names in `keys`.
        """
        return await tried(lambda again: self.call(tag, name, keys, args, lasts, of))

    async def call(
        self,
        tag: str,
        name: str,
        keys: Sequence[str | Named],
        args: Iterable[Word],
        lasts: float = 0,
        of: Collection[str] = (),
    ) -> Any:
        """Run a script once. Raises errors of redis-py, OSError, or StateMoved."""
        for _ in range(TRIES):
            await self._remember(lasts)
            known, count = self.ledger.generation, self.ledger.of(tag)
            self._require(of)
            begin = f"{self._prefix}{{{tag}}}"
            ours = f"{begin}generation", f"{begin}{known}:author:{count.author}"
            has = f"{known}{self.rings}"
            rest = has, count.steps, int(self._remembered * 1000), self._author_ms
            said, *answer = await self.client.eval(
                script(name),
                [*(f"{begin}{known}:{self._key(key)}" for key in keys), *ours],
                [*args, *rest, "1" if name in COUNTED else ""],
            )
            if said >= 0:
                count.note(said)
                return answer[0]
            if said == MOVED:
                self._take(answer[0].decode())
            elif said == LOST:
                await self._begin(known)
        raise ResponseError("generations begin faster than they are used")

    async def read(self, tag: str, command: str, key: str, *args: Word) -> Any:
        """Call a command that reads a page of a key. Raises StateError."""

        async def call(again: bool) -> Any:
            await self._remember(0)
            return await self.client.call(command, self.key(tag, key), *args)

        return await tried(call)

    # ------------------------------------------------------------------------ rings

    def _require(self, names: Iterable[str]) -> None:
        """Raise StateMoved if one of `names` is on another server."""
        if self.rings.number or len(self.rings.servers) > 1:
            for name in names:
                if self.rings.place(name).server != self._server:
                    raise StateMoved(f"{name!r} is on another server now")

    def _key(self, key: str | Named) -> str:
        if isinstance(key, str):
            return key
        if key.was_here:
            since = self.rings.before.place(key.name).since
        else:
            self._require((key.name,))
            since = self.rings.place(key.name).since
        # the keys of the first ring have no number: most sites never have another one
        return f"{key.key}{since or ''}:{key.name}"

    def adopt(self, rings: Rings) -> None:
        """Note these rings, unless newer ones are known; the next call of each tag tells it."""
        if is_newer(rings, self.rings):
            self.rings = rings

    def _take(self, value: str) -> None:
        """Note what a tag has: a generation and rings."""
        generation, slash, rest = value.partition(RING)
        self.ledger.learn(generation)
        if slash and is_newer(rings := Rings.parse(slash + rest), self.rings):
            self.rings = rings
            self._moved(rings)

    # ------------------------------------------------------------------ generations

    async def _remember(self, lasts: float) -> None:
        """Learn the generation, and let Redis remember it for as long as keys last, or longer."""
        if lasts <= self._remembered and time.monotonic() < self._remember_at:
            return
        self._remembered = max(lasts, self._remembered)
        await self._learn(self.ledger.generation, "")
        self._remember_at = time.monotonic() + self._remembered / 4

    async def _begin(self, known: str) -> None:
        """Begin a new generation, unless there is a newer one than `known` already."""
        await self._learn(known, "1")

    async def _learn(self, known: str, lacks: str) -> None:
        ms, key = int(self._remembered * 1000), f"{self._prefix}{{{NODES}}}generation"
        args = known, secrets.token_hex(2), ms, lacks, str(self.rings)
        found = await self.client.eval(generation(), [key], [*args])
        self._take(found.decode())

    async def forget(self) -> None:
        """Begin a new generation, unless another author has done so. Raises StateError."""
        known = self.ledger.generation
        await tried(lambda again: self._begin(known))


async def tried(call: Callable[[bool], Awaitable[Any]]) -> Any:
    """Run ``call(False)``; if the server is away, run ``call(True)``. Raises StateError.

    The connection may have died long ago, or lead to a server that is no longer the primary.
    """
    try:
        try:
            return await call(False)
        except ERRORS as error:
            if not is_away(error):
                raise
            return await call(True)
    except ERRORS as error:
        reason = ONE_OF_MANY if is_moved(error) else f"{type(error).__name__}: {error}"
        raise _kind(error)(f"a call to Redis failed: {reason}") from error


def _kind(error: Exception) -> type[StateError]:
    if isinstance(error, TimeoutError):
        return StateTimeout
    is_refused = isinstance(error, ResponseError) and not is_away(error)
    return StateRefused if is_refused else StateError


async def spread(
    names: Iterable[Item],
    name_of: Callable[[Item], str],
    ask: Callable[[str, list[Item]], Awaitable[list[Any]]],
) -> list[Any]:
    """Ask each hash tag for its part of `names`, at the same time; return the answers in their order."""
    parts: dict[str, list[Item]] = {}
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        tag = tag_of(name_of(name))
        parts.setdefault(tag, []).append(name)
        places.setdefault(tag, []).append(i)
    answers = await together([ask(tag, part) for tag, part in parts.items()])
    found: list[Any] = [None] * sum(map(len, places.values()))
    for at, answer in zip(places.values(), answers):
        for i, one in zip(at, answer):
            found[i] = one
    return found


async def together(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """Wait for all `calls`; return their results. Raises the first error, when all are over."""
    if len(calls) == 1:
        return [await calls[0]]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
