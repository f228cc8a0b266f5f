"""Hints: relays are told of new rows after the commit, so that they need not wait for the next look.

A hint costs the transaction nothing, and may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s

from ..concurrency.own_loop import own_loop
from ..node.node import all_nodes, get_node, serving_nodes
from ..pubsub.message import Internal

#: a database, and a partition of its outbox; None for those who want one
Place = tuple[str, int | None]


def group_of(place: Place) -> Internal:
    """Return the key of the nodes whose relays have, or want, the partition."""
    database, partition = place
    # its hash: layers refuse names that are long, or have other characters
    name = blake2s(database.encode(), digest_size=8).hexdigest()
    return Internal(f"outbox.{name}.{'any' if partition is None else partition}")


def tell(database: str, partitions: Iterable[int]) -> None:
    """Tell the relays of `partitions` that there are rows, from any thread; do not wait for it."""
    from .relays import Relays

    places: set[Place] = {(database, partition) for partition in partitions}
    for node in all_nodes():
        here = {place for place in places if node.part(Relays).has(place)}
        if here:
            node.loop.call_soon_threadsafe(node.part(Relays).wake, here)
            places -= here
    if places:
        serving = serving_nodes()
        loop = serving[0].loop if serving else own_loop()
        loop.call_soon_threadsafe(_tell, places)


def _tell(places: set[Place]) -> None:
    from .relays import Relays

    get_node().part(Relays).tell(places)
