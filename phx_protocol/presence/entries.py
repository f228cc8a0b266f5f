"""Presences as values: entries, diffs of them, and the maps that clients see."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..wire import json

Presences = dict[str, dict[str, Any]]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One meta of one key: what a device of a user is, say.

    `meta` is JSON with ``phx_ref`` in it; `since` orders the metas of a key, in microseconds
    of the epoch, and stays when the meta is updated.
    """

    ref: str
    key: str
    since: int
    meta: msgspec.Raw

    @classmethod
    def make(
        cls, key: str, since: int, meta: Mapping[str, Any], previous: str | None = None
    ) -> Entry:
        """A new entry with a ref of its own. Raises TypeError, EncodeError."""
        if not isinstance(meta, Mapping):
            raise TypeError(f"a meta is a mapping, not {meta!r:.100}")
        ref = secrets.token_urlsafe(
            12
        )  # never the same, in no process and after no restart
        refs = {"phx_ref": ref} if previous is None else _refs(ref, previous)
        return cls(ref, key, since, msgspec.Raw(json.encode({**meta, **refs})))

    def pack(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, data: bytes | str) -> Entry:
        return _decode(data)

    def decoded(self) -> dict[str, Any]:
        """The meta without its refs, as ``track`` was given it."""
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
    """Who came and who left."""

    __slots__ = ("joins", "leaves")

    def __init__(
        self, joins: Iterable[Entry] = (), leaves: Iterable[Entry] = ()
    ) -> None:
        self.joins = by_ref(joins)
        self.leaves = by_ref(leaves)

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves)

    def add(self, later: Diff) -> None:
        """Have `later` happen as well: who comes and leaves again was never there, nor was
        away who leaves and is back."""
        for ref, entry in later.leaves.items():
            if self.joins.pop(ref, None) is None:
                self.leaves[ref] = entry
        for ref, entry in later.joins.items():
            if self.leaves.pop(ref, None) is None:
                self.joins[ref] = entry

    @classmethod
    def between(cls, old: Entries, new: Entries) -> Diff:
        joins = [entry for ref, entry in new.items() if ref not in old]
        return cls(joins, [entry for ref, entry in old.items() if ref not in new])


def grouped(entries: Iterable[Entry], *, encoded: bool) -> Presences:
    """``{key: {"metas": [...]}}``, the metas of a key in the order they came.

    With `encoded` the metas are ``msgspec.Raw``: nothing is decoded only to be encoded again.
    """
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.key, []).append(entry)
    for several in found.values():
        several.sort(key=_since)
    meta = _encoded if encoded else _decoded
    return {key: {"metas": [meta(e) for e in metas]} for key, metas in found.items()}


def _encoded(entry: Entry) -> msgspec.Raw:
    return entry.meta


def _decoded(entry: Entry) -> Any:
    return json.decode(bytes(entry.meta))


def _since(entry: Entry) -> tuple[int, str]:
    return entry.since, entry.ref
