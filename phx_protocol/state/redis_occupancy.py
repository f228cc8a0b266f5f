"""The occupancy of a project that runs as several processes: in Redis, by the hash tag of each name."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any

from .occupancy import KEPT, Change, Mark, Occupancy, Seen, seen_for
from .store import TAGS, Store, spread, tag_of, together
from .words import chunks, milliseconds

#: most entries that a call looks at of a node that is dead
SCANNED = 500
#: the sets of nodes that may have names
SETS = "holders", "leaving"


class RedisOccupancy(Occupancy):
    """The occupancy of the names of `kind`; the clock is that of Redis."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._lasts = seen_for(kind)
        self._times = milliseconds(KEPT), milliseconds(self._lasts)
        self._keys = [f"{key}:{kind}" for key in ("here", "due", "seen", *SETS)]

    async def _run(
        self,
        tag: str,
        script: str,
        *args: Any,
        lasts: float = 0,
        of: Collection[str] = (),
    ) -> Any:
        rest = *self._times, *args
        return await self._store.run(tag, script, self._keys, *rest, lasts=lasts, of=of)

    async def mark(
        self, node: str, marks: Sequence[Mark], delay: float
    ) -> list[float | None]:
        async def ask(tag: str, some: list[Mark]) -> list[float | None]:
            found: list[float | None] = []
            for few in chunks(some):
                args = [node, milliseconds(delay)]
                for mark in few:
                    args += mark.name, f"{mark.is_here:d}{mark.was_told:d}"
                waits = await self._run(tag, "mark", *args, lasts=2 * self._lasts)
                found += map(_seconds, waits)
            return found

        return await spread(marks, lambda mark: mark.name, ask)

    async def look(self, names: Sequence[str], delay: float) -> list[Seen]:
        async def ask(tag: str, some: list[str]) -> list[Seen]:
            found: list[Seen] = []
            for few in chunks(some):
                args = milliseconds(delay), *few
                flat = await self._run(tag, "look", *args, of=few)
                found += map(_seen, flat[::2], flat[1::2])
            return found

        return await spread(names, str, ask)

    async def claim(self, names: Collection[str], seconds: float) -> list[Change]:
        async def ask(tag: str, some: list[str]) -> list[Change]:
            found: list[Change] = []
            for few in chunks(some):
                found += (await self._claim(tag, len(few), seconds, few))[0]
            return found + [_NONE] * (len(some) - len(found))

        claimed = await spread(list(names), str, ask)
        return [change for change in claimed if change is not _NONE]

    async def _claim(
        self, tag: str, most: int, seconds: float, names: Collection[str]
    ) -> tuple[list[Change], bool]:
        """Claim changes; return also whether the state has anything under this tag."""
        args = milliseconds(seconds), most, secrets.token_hex(8), *names
        is_any, *flat = await self._run(tag, "claim", *args)
        return list(map(_change, *(flat[i::4] for i in range(4)))), bool(is_any)

    async def sweep(
        self, names: Collection[str], most: int, seconds: float
    ) -> tuple[list[Change], list[str]]:
        each = -(-most // len(TAGS))
        answers = await together([self._claim(t, each, seconds, ()) for t in TAGS])
        empty = {tag for tag, (_, is_any) in zip(TAGS, answers) if not is_any}
        lost = [name for name in names if tag_of(name) in empty] if empty else []
        return [change for changes, _ in answers for change in changes], lost

    async def hold(self, changes: Collection[Change], seconds: float) -> list[Change]:
        are_held = await self._on(changes, "hold", milliseconds(seconds))
        return [change for change, is_held in zip(changes, are_held) if is_held]

    async def told(self, changes: Sequence[Change]) -> list[float | None]:
        return list(map(_seconds, await self._on(changes, "told")))

    async def _on(self, changes: Collection[Change], script: str, *args: Any) -> Any:
        """Run a script on claimed changes; return what it says of each."""

        async def ask(tag: str, some: list[Change]) -> list[Any]:
            found: list[Any] = []
            for few in chunks(some):
                flat = [word for change in few for word in (change.name, change.id)]
                found += await self._run(tag, script, *args, *flat)
            return found

        return await spread(changes, lambda change: change.name, ask)

    async def vacate(self, node: str) -> None:
        await together([self._vacate(tag, node) for tag in TAGS])

    async def _vacate(self, tag: str, node: str) -> None:
        cursor = b"0"
        while True:
            cursor = await self._run(tag, "vacate", node, cursor, SCANNED)
            if cursor == b"0":
                return


#: stands for a name of which nothing was claimed
_NONE = Change("", "", False, 0.0)


def _change(name: bytes, id: bytes, is_here: int, at: int) -> Change:
    return Change(name.decode(), id.decode(), bool(is_here), at / 1000)


def _seen(is_here: int, at: int) -> Seen:
    return Seen(bool(is_here), at / 1000 if at else None)


def _seconds(ms: int) -> float | None:
    return None if ms < 0 else ms / 1000
