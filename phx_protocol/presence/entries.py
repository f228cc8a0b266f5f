"""The values of presence: entries, diffs of entries, and the dicts that clients get."""

from __future__ import annotations

import bisect
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..logs.printable import shown
from ..wire import json

Presences = dict[str, dict[str, Any]]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One meta of one key: for example one device of a user.

    `meta` is JSON that contains ``phx_ref``. `since`, in microseconds of the epoch, orders the
    metas of a key, and does not change when the meta is updated.
    """

    ref: str
    key: str
    since: int
    meta: msgspec.Raw

    @classmethod
    def make(
        cls, key: str, since: int, meta: Mapping[str, Any], previous: str | None = None
    ) -> Entry:
        """Make a new entry with a new ref. Raises TypeError, EncodeError."""
        if not isinstance(meta, Mapping):
            raise TypeError(f"a meta is a mapping, not {shown(meta, 100)}")
        ref = secrets.token_urlsafe(12)  # unique over all processes and restarts
        refs = {"phx_ref": ref} if previous is None else _refs(ref, previous)
        raw = msgspec.Raw(json.encode({**meta, **refs}))
        json.encode(key)  # raises EncodeError for a string with lone surrogates
        return cls(ref, key, since, raw)

    def pack(self) -> bytes:
        return json.encode(self)

    @classmethod
    def unpack(cls, data: bytes | str) -> Entry:
        return _decode(data)

    def decoded(self) -> dict[str, Any]:
        """Return the meta without its refs, as it was passed to ``track``."""
        meta: dict[str, Any] = json.decode(bytes(self.meta))
        meta.pop("phx_ref")
        meta.pop("phx_ref_prev", None)
        return meta


_decode = msgspec.json.Decoder(Entry).decode


def _refs(ref: str, previous: str) -> dict[str, str]:
    return {"phx_ref": ref, "phx_ref_prev": previous}


Entries = dict[str, Entry]  # by ref


def by_ref(entries: Iterable[Entry]) -> Entries:
    return {entry.ref: entry for entry in entries}


class Diff:
    """The entries that joined and those that left."""

    __slots__ = ("joins", "leaves")

    def __init__(
        self, joins: Iterable[Entry] = (), leaves: Iterable[Entry] = ()
    ) -> None:
        self.joins = by_ref(joins)
        self.leaves = by_ref(leaves)

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves)

    def add(self, later: Diff) -> None:
        """Merge `later`, which happened after this diff, into it.

        An entry that joined and left stays in ``leaves``: a client that already knows a part of
        the changes ends with the right list too.
        """
        for ref, entry in later.leaves.items():
            self.joins.pop(ref, None)
            self.leaves[ref] = entry
        for ref, entry in later.joins.items():
            self.leaves.pop(ref, None)
            self.joins[ref] = entry

    def parts(self, size: int) -> Iterator[Diff]:
        """Yield this diff in parts of at most `size` entries: first the joins, so that nobody who is updated
        is absent in between."""
        if len(self.joins) + len(self.leaves) <= size:
            yield self
            return
        for joins in _chunks([*self.joins.values()], size):
            yield Diff(joins)
        for leaves in _chunks([*self.leaves.values()], size):
            yield Diff((), leaves)

    @classmethod
    def between(cls, old: Entries, new: Entries) -> Diff:
        joins = [entry for ref, entry in new.items() if ref not in old]
        return cls(joins, [entry for ref, entry in old.items() if ref not in new])


def _chunks(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    return (entries[i : i + size] for i in range(0, len(entries), size))


class Roster:
    """A set of entries, by ref and by key; the JSON of each key is cached until the key changes."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: Entries = {}
        # the metas of a key in the order in which they joined
        self._keys: dict[str, list[Entry]] = {}
        self._encoded: dict[str, bytes] = {}
        self.change(Diff(entries))

    def change(self, diff: Diff) -> None:
        left = [self._drop(ref) for ref in (*diff.leaves, *diff.joins)]
        for entry in diff.joins.values():
            self.entries[entry.ref] = entry
            self._encoded.pop(entry.key, None)
            bisect.insort(self._keys.setdefault(entry.key, []), entry, key=_since)
        for key in left:  # after the joins: a key that was updated keeps its place
            if key in self._keys and not self._keys[key]:
                del self._keys[key]

    def _drop(self, ref: str) -> str | None:
        """Remove an entry; return its key, or None if there is no such entry."""
        entry = self.entries.pop(ref, None)
        if entry is None:
            return None
        self._encoded.pop(entry.key, None)
        self._keys[entry.key].remove(entry)
        return entry.key

    def __len__(self) -> int:
        """Return how many keys are present."""
        return len(self._keys)

    def first(self, key: str, most: int) -> Entries:
        """Return those of the entries of one key that joined first, at most so many."""
        return by_ref(self._keys.get(key, [])[:most])

    def of(self, key: str) -> Roster:
        """Return a roster with the entries of one key."""
        return Roster(self._keys.get(key, ()))

    def encoded(self) -> msgspec.Raw:
        """Return ``{key: {"metas": [...]}}`` as JSON, the keys in the order in which they joined."""
        for key in self._keys.keys() - self._encoded.keys():
            metas = {key: {"metas": [entry.meta for entry in self._keys[key]]}}
            self._encoded[key] = json.encode(metas)[1:-1]
        parts = self._encoded
        return msgspec.Raw(b"{" + b",".join([parts[key] for key in self._keys]) + b"}")

    def presences(self) -> Presences:
        """Return ``{key: {"metas": [...]}}``, a new dict that the caller may change."""
        found: Presences = json.decode(bytes(self.encoded()))
        return found


def _since(entry: Entry) -> tuple[int, str]:
    return entry.since, entry.ref
