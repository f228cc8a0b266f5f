"""Names: the users, or the topics, that one node has, and what the state knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from ..conf import options
from ..state.occupancy import Mark
from .teller import Teller

if TYPE_CHECKING:
    from ..node.heartbeat import Heartbeat

#: most names in one call of the state
AT_ONCE = 5000


class Names:
    """The names of one kind; ``is_here`` says whether this node has one.

    Nothing is written while a connection opens or closes: the names that changed are written together,
    every second. While the state fails they wait.
    """

    def __init__(
        self, heartbeat: Heartbeat, teller: Teller, is_here: Callable[[str], bool]
    ) -> None:
        self.teller = teller
        self._heartbeat = heartbeat
        self._node = heartbeat.node
        self._is_here = is_here
        self._changed: set[str] = set()
        self._written: set[str] = set()  # those that the state knows to be here
        # those of which that is not sure: they are written whatever they are
        self._doubtful: set[str] = set()
        self._writing: set[str] = set()
        # name that has moved -> the names of its new server. They write it there before it is dropped here
        self._moved: dict[str, Names] = {}

    def changed(self, name: str) -> None:
        """Note that this node may have got `name`, or lost it."""
        is_known = self._is_here(name) == (name in self._written)
        if is_known and name not in self._doubtful:
            self._changed.discard(name)
        else:
            self._changed.add(name)
        self._keep_node()

    def lost(self) -> None:
        """Write all again: the state has nothing of this node, and may have lost all."""
        self._doubt(self._known)

    def stopped(self) -> None:
        """Note that this node has left the state: nothing of it is written there."""
        self._changed = {name for name in self._known if self._is_here(name)}
        self._written.clear()
        self._doubtful.clear()
        self._moved.clear()
        self._keep_node()

    @property
    def _known(self) -> set[str]:
        """The names that the state should know of this node: also those that left, until that is told."""
        pending = self.teller.due | self.teller.claims.keys()
        return self._written | self._changed | pending

    def _doubt(self, names: Iterable[str]) -> None:
        some = set(names)
        self._doubtful |= some
        self._changed |= some

    async def write(self) -> None:
        """Write what has changed. Raises StateError."""
        moved = self._moved.items()
        self._moved = {n: other for n, other in moved if other._is_to_write(n)}
        while some := list(islice(self._changed - self._moved.keys(), AT_ONCE)):
            self._changed.difference_update(some)
            self._writing = {*some}
            marks = self._marks(some)
            try:
                waits = await self._write(marks)
            except BaseException:  # it may be done all the same
                self._doubt(some)
                raise
            finally:
                self._writing = set()
            for mark, wait in zip(marks, waits):
                self.teller.expect(mark.name, wait)
                self.changed(mark.name)  # it may have changed meanwhile
        self._keep_node()

    def _is_to_write(self, name: str) -> bool:
        return name in self._changed or name in self._writing

    def move(
        self, has_moved: Callable[[str], bool], names_of: Callable[[str], Names]
    ) -> None:
        """Give the names that have moved to those of their server, with what was told of them.

        Here they are written once more: as names that this node does not have.
        """
        moved = [name for name in self._known if has_moved(name)]
        for mark in self._marks(moved):
            other = names_of(mark.name)
            if mark.was_told:
                other._written.add(mark.name)
            other._doubt([mark.name])
            other._moved.pop(mark.name, None)
            if other is not self:
                self._moved[mark.name] = other
            other._keep_node()
        self._doubt(moved)
        self._keep_node()

    def _marks(self, names: list[str]) -> list[Mark]:
        self._doubtful.difference_update(names)
        due, claims = self.teller.due, self.teller.claims

        def was_told(name: str) -> bool:
            if name in claims:
                return claims[name]
            return (name in self._written) != (name in due)

        return [Mark(name, self._is_here(name), was_told(name)) for name in names]

    async def _write(self, marks: list[Mark]) -> list[float | None]:
        beat, delay = self._heartbeat, options().offline_after
        owner = beat.name
        waits = await self.teller.occupancy.mark(owner, marks, delay)
        for mark in marks:
            keep = self._written.add if mark.is_here else self._written.discard
            keep(mark.name)
        if owner != beat.name:  # whatever had the old name is removed
            self._doubt(mark.name for mark in marks)
        return waits

    async def sweep(self) -> None:
        """Claim what dead nodes did not tell, and write what the state has lost. Raises StateError."""
        self._doubt(await self.teller.sweep(self._known - self._changed))
        await self.write()

    def _keep_node(self) -> None:
        """Keep the node running while there is something to write or to tell."""
        is_busy = bool(self._changed) or self.teller.is_busy
        (self._node.keep_alive if is_busy else self._node.let_go)(self)
