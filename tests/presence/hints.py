"""Hints, and clients that follow them."""

from __future__ import annotations

from typing import Any

import msgspec

from phx_protocol.presence.entries import Diff, Entry, Roster
from phx_protocol.presence.replica import Replica
from tests.support.presence_js import Shown

KEYS = ["ada", "bob", "constructor"]


def entry(n: int, key: str) -> Entry:
    """The `n`-th entry that was ever made."""
    ref = f"r{n}"
    return Entry(ref, key, n, msgspec.Raw(b'{"phx_ref": "%s"}' % ref.encode()))


def shown(diff: Diff) -> dict[str, Any]:
    joins = Roster(diff.joins.values()).presences()
    return {"joins": joins, "leaves": Roster(diff.leaves.values()).presences()}


def client_of(replica: Replica) -> Shown:
    client = Shown()
    client.take_state(Roster(replica.entries.values()).presences())
    return client
