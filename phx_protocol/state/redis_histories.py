"""The histories of a state in Redis: a stream for each topic, and a head with its position."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from ..exceptions import StateMoved
from .base import (
    PAGE,
    PAGE_BYTES,
    Item,
    Kept,
    Position,
    State,
    history_expiry,
    new_epoch,
)
from .client import Word
from .items import append_args, appended, bundles, kept
from .store import TAGS, Named, Store, spread, tag_of, tried
from .words import chunks, milliseconds, position, positions


class RedisHistories(State):
    """The part of ``RedisState`` that keeps broadcasts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # hash tag -> free slots, where Redis remembers the result of an append; an append that is
        # done at the first try leaves its slot to the next one
        self._slots: dict[str, list[str]] = {tag: [] for tag in TAGS}

    @property
    def _linger(self) -> int:
        return milliseconds(self.linger)

    async def append(self, items: Sequence[Item]) -> list[Position | None]:
        return await spread(items, lambda item: item.topic, self._append)

    async def _append(self, tag: str, items: Sequence[Item]) -> list[Position | None]:
        found: list[Position | None] = []
        for some in bundles(items):
            try:
                found += await self._keep(tag, some)
            except StateMoved:  # those of a topic stay in their order
                return found + [None] * (len(items) - len(found))
        return found

    async def _keep(self, tag: str, items: Sequence[Item]) -> list[Position]:
        """Keep several items in one step, which is done as a whole or not at all."""
        slots = self._slots[tag]
        slot = slots.pop() if slots else secrets.token_hex(8)
        id, lasts = secrets.token_hex(8), 2 * history_expiry(max(i.ttl for i in items))
        each = list(chain.from_iterable(map(append_args, items)))
        histories = chain.from_iterable(_history(item.topic) for item in items)
        keys: list[str | Named] = [f"done:{slot}", *histories]
        tries = 0

        async def keep(again: bool) -> Any:
            # if another try has already been done, Redis knows that by the id
            nonlocal tries
            tries += 1
            return await self._store.call(tag, "append", keys, [id, *each], lasts)

        found = appended(await tried(keep))
        if tries == 1:  # else one may still be on its way
            slots.append(slot)
        return found

    async def since(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        partial: bool = False,
        limit: int | None = None,
        was_here: bool = False,
    ) -> tuple[Position, list[Kept]]:
        most = "" if limit is None else limit
        args = n, milliseconds(ttl), "1" if partial else "", most, PAGE_BYTES, PAGE
        keys, tag = _history(topic, was_here), tag_of(topic)
        epoch, last, entries = await self._store.run(tag, "since", keys, *args)
        return position(epoch, last), [kept(*entry) for entry in entries]

    async def rewind(
        self,
        topic: str,
        n: int,
        ttl: float,
        *,
        count: int | None,
        seconds: float | None,
        limit: int,
    ) -> tuple[Position, int]:
        age = "" if seconds is None else milliseconds(seconds)
        most = "" if count is None else count
        args = n, milliseconds(ttl), most, age, limit
        epoch, last, first = await self._on(topic, "rewind", *args)
        return position(epoch, last), int(first)

    async def kept(self, topic: str, ttl: float) -> tuple[Position, int]:
        epoch, last, count = await self._on(topic, "many", milliseconds(ttl))
        return position(epoch, last), int(count)

    async def open(self, topic: str, ttl: float) -> Position:
        expiry = history_expiry(ttl)
        args = new_epoch(), milliseconds(expiry), self._linger
        return position(*await self._on(topic, "open", *args, lasts=2 * expiry))

    async def heads(self, topics: Mapping[str, float]) -> list[Position]:
        async def ask(tag: str, some: list[str]) -> list[Position]:
            found: list[Position] = []
            for few in chunks(some):
                keys = [_history(topic)[0] for topic in few]
                args = (milliseconds(history_expiry(topics[topic])) for topic in few)
                run = self._store.run(tag, "heads", keys, self._linger, *args)
                found += positions(await run)
            return found

        return await spread(topics, str, ask)

    async def reset(self, topic: str) -> None:
        await self._on(topic, "reset")

    async def _on(self, topic: str, name: str, *args: Word, lasts: float = 0) -> Any:
        """Run a script on the history of `topic`."""
        keys = _history(topic)
        return await self._store.run(tag_of(topic), name, keys, *args, lasts=lasts)


def _history(topic: str, was_here: bool = False) -> tuple[Named, Named]:
    """Return the keys of a history: its head and its stream."""
    return Named(topic, "head", was_here), Named(topic, "history", was_here)
