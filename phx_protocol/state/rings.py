"""Rings: which server of the state has a topic, a user or an address; and which had it before.

A ring is the list of the servers in use. When a site changes it, there is a new ring, from one moment on
in all processes: see ``node/placement.py``. The rings are remembered in the state itself, so that nobody
writes by an old one. A topic that comes back to a server finds no history of its earlier time there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

#: what separates rings, and servers; neither is in the id of a server
RING, SERVER = "/", ","
#: most names of which a process remembers the place
KNOWN = 10_000


class Place(NamedTuple):
    """The id of the server that has a name, and the number of the ring since which it does."""

    server: str
    since: int


class Rings:
    """All rings of a state so far, the one in use last: lists of the ids of servers.

    A site whose servers have never changed has one ring, and nothing of it in the state.
    """

    def __init__(self, lists: Iterable[Iterable[str]]) -> None:
        self.lists = [tuple(sorted(ids)) for ids in lists]
        self._places: dict[str, Place] = {}
        texts = [RING + SERVER.join(ids) for ids in self.lists]
        self._text = "".join(texts) if self.number else ""

    @classmethod
    def parse(cls, text: str) -> Rings:
        """Return what ``str`` has made a text of: ``"/ab12cd34/ab12cd34,01fe98dc"``."""
        return cls(ids.split(SERVER) for ids in text.split(RING)[1:])

    def __str__(self) -> str:
        return self._text

    @property
    def servers(self) -> tuple[str, ...]:
        """The ids of the servers in use."""
        return self.lists[-1]

    @property
    def number(self) -> int:
        return len(self.lists) - 1

    def then(self, ids: Iterable[str]) -> Rings:
        """Return these rings and one more."""
        return Rings([*self.lists, ids])

    @property
    def before(self) -> Rings:
        """These rings without the one in use."""
        return Rings(self.lists[:-1] or self.lists)

    def place(self, name: str) -> Place:
        """Return where `name` is."""
        if len(self.lists) == 1 and len(self.servers) == 1:
            return Place(self.servers[0], 0)
        if (found := self._places.get(name)) is None:
            if len(self._places) >= KNOWN:
                self._places.clear()
            found = self._places[name] = self._find(name)
        return found

    def _find(self, name: str) -> Place:
        def owner(ids: tuple[str, ...]) -> str:
            return max(ids, key=lambda id: _rank(id, name))

        server, since = owner(self.servers), self.number
        while since and owner(self.lists[since - 1]) == server:
            since -= 1
        return Place(server, since)


def id_of(server: str) -> str:
    """Return the id of a server by its name."""
    return hashlib.blake2b(server.encode(), digest_size=4).hexdigest()


def _rank(id: str, name: str) -> bytes:
    """Return the rank of a server for a name: the highest has it (rendezvous hashing)."""
    return hashlib.blake2b(f"{id}\n{name}".encode(), digest_size=8).digest()


def is_newer(rings: Rings, known: Rings) -> bool:
    """Return True if `rings` count instead of the `known` ones.

    If two processes have made different rings at the same time, one of them counts, for all the same.
    """
    return (rings.number, str(rings)) > (known.number, str(known))
