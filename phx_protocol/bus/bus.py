"""Bus: the Unix sockets between this node and the other processes of the project.

A node that listens has a socket, and sends over connections of its own to the sockets of all others.
So nobody answers on a connection that somebody else has made. A new connection also tells its
receiver to look who is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Collection

from django.conf import settings

from ..concurrency.tasks import begin, end
from ..conf import options
from ..exceptions import BroadcastError
from ..logs import get_logger
from ..logs.printable import describe
from .connections import BACKLOG, PAUSE, Hearing, Message, Peer, connect, encode
from .folder import Neighbour, Place, neighbours

logger = get_logger("phx_protocol.pubsub")

#: seconds for which a node that does not listen keeps the connections that it has made
KEPT = 1.0
#: seconds in which the processes that are there connect to a new one, before it goes on
WELCOME = 0.5


def is_on() -> bool:
    """Return True if processes with a layer in memory reach each other: LOCAL_BUS, or by default DEBUG."""
    chosen = options().local_bus
    is_wanted = settings.DEBUG if chosen is None else chosen
    return bool(is_wanted) and hasattr(socket, "AF_UNIX") and not is_tested()


def is_tested() -> bool:
    """Return True under a test runner, and in the processes that a test starts."""
    utils = sys.modules.get("django.test.utils")
    state = getattr(utils, "_TestState", None)
    is_in_test = bool(os.environ.get("PYTEST_CURRENT_TEST"))
    return hasattr(state, "saved_data") or is_in_test


class Bus:
    """The connections of one node. It listens between ``open`` and ``close``, and may send at any time.

    `take` is called with each message; `is_behind` says that many of these wait to be handled. If
    `carries` is False, the node only takes a place in the folder.
    """

    def __init__(
        self,
        take: Callable[[Message], None],
        *,
        carries: bool,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._take = take
        self._carries = carries
        self._is_behind = is_behind
        self._serves = False
        self._place: Place | None = None
        self._server: asyncio.Server | None = None
        self._heard: set[Hearing] = set()
        self._peers: dict[str, Peer] = {}
        self._missing: set[str] = set()  # peers that the last tick did not find
        # what waits until this node has looked who is there
        self._late: deque[tuple[bytes, str | None, asyncio.Future[None]]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._room: asyncio.Task[None] | None = None
        self._looks = asyncio.Lock()
        self._is_new = False  # True if somebody has connected since the last look

    @property
    def address(self) -> str | None:
        """The address of this node, or None if it does not listen."""
        return self._place.address if self._place and self._server else None

    @property
    def may_be_heard(self) -> bool:
        """False if it listens and nobody else is there: a newcomer would have connected."""
        return self._server is None or bool(self._peers or self._late)

    @property
    def is_full(self) -> bool:
        """True if so much waits for another process that publishers must wait as well."""
        return self._room is not None

    # ------------------------------------------------------------- to be there

    async def open(self, *, serves: bool) -> None:
        """Take a place in the folder, and listen. Without a place it does nothing but log why."""
        self._serves = serves
        try:
            await self._take_place()
        except OSError as error:
            level = logging.WARNING if self._carries else logging.DEBUG
            logger.log(level, "other processes do not reach this one: %s", error)

    async def _take_place(self) -> None:
        self._place = place = Place(serves=self._serves)
        if self._carries:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(
                self._hearing, place.address, backlog=BACKLOG
            )
            await self._welcomed(await self._look())

    @property
    def _is_in_place(self) -> bool:
        if self._place is None or (self._carries and self._server is None):
            return False
        return self._place.is_there(listens=self._carries)

    def _hearing(self) -> Hearing:
        return Hearing(self._hear, self._connected, self._is_behind, self._heard)

    def _hear(self, hearing: Hearing, message: Message) -> None:
        if "hello" in message:
            hearing.sender = message["hello"]
        else:
            self._take(message)

    async def _welcomed(self, found: Collection[Neighbour]) -> None:
        """Wait until the others that serve clients send to this node as well, WELCOME at most."""
        others = {one.address for one in found if one.serves}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WELCOME):
                while others - {hearing.sender for hearing in self._heard}:
                    await asyncio.sleep(PAUSE)

    async def tick(self) -> list[Neighbour]:
        """Keep the place, make connections that are missing, end those to the dead; return who is there.

        Somebody may clean up the folder: then it takes another place. A child of a dead process may
        keep its connections open. Raises OSError if there is no place, or no folder.
        """
        if not self._is_in_place:
            self._leave()  # the connections too, or what is sent would come twice
            await self._take_place()
        found = await self._look()
        there = {one.address for one in found}
        # not at once: one whose files were removed closes them itself
        for address in self._missing - there:
            if peer := self._peers.get(address):
                peer.close()
        self._missing = self._peers.keys() - there
        return found

    async def close(self) -> None:
        """Leave the place, and end all connections."""
        self._leave()
        for task in (self._looking, self._sending, self._room):
            await end(task)
        for _, _, done in self._late:
            done.cancel()
        self._late.clear()

    def _leave(self) -> None:
        place, self._place = self._place, None
        server, self._server = self._server, None
        if place is not None:
            place.leave()
        if server is not None:
            server.close()
        connections: list[Hearing | Peer] = [*self._heard, *self._peers.values()]
        for connection in connections:
            connection.close()

    # ------------------------------------------------------------------- sending

    def send(
        self, message: Message, address: str | None = None
    ) -> asyncio.Future[None] | None:
        """Send to the process at `address`, or to all others.

        None: no need to wait. The future is done when there is room for more, or, if this node does
        not listen, when the machine has the message; then it raises BroadcastError if a process
        does not take it. Raises EncodeError, or the error of a message that cannot be encoded.
        """
        data = encode(message)
        # a node that listens is told of new processes, and connects to them soon; another one has to look
        if self._server is not None and (address is None or address in self._peers):
            self._write(data, address)
            return self._room_for_more()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._late.append((data, address, done))
        if self._sending is None:
            self._sending = begin(self._send_late())
        return done

    def _write(self, data: bytes, address: str | None) -> list[Peer]:
        to = self._peers if address is None else {address} & self._peers.keys()
        peers = [self._peers[name] for name in to]
        for peer in peers:
            peer.write(data)
        return peers

    def _room_for_more(self) -> asyncio.Future[None] | None:
        if self._room is None and self._is_anybody_behind():
            self._room = begin(self._until_there_is_room())
        # a publisher that is cancelled does not end it for the others
        return self._room and asyncio.shield(self._room)

    def _is_anybody_behind(self) -> bool:
        return any(peer.is_behind for peer in self._peers.values())

    async def _until_there_is_room(self) -> None:
        try:
            while self._is_anybody_behind():
                await asyncio.sleep(PAUSE)
        finally:
            self._room = None

    async def _send_late(self) -> None:
        try:
            while self._late:
                data, address, done = self._late[0]
                try:
                    await self._send_one(data, address)
                except (OSError, BroadcastError) as error:
                    if not done.done():
                        done.set_exception(_as_broadcast_error(error))
                        done.exception()  # nobody need wait for it
                self._late.popleft()
                if not done.done():
                    done.set_result(None)
        finally:
            self._sending = None
            if self._server is None:  # it hears of no process that ends or begins
                loop = asyncio.get_running_loop()
                loop.call_later(KEPT, self._close_peers)

    async def _send_one(self, data: bytes, address: str | None) -> None:
        if self._server is None or address not in (None, *self._peers):
            await self._look(must_reach=True)
        peers = self._write(data, address)
        if self._server is None:
            taken = await asyncio.gather(*(peer.flushed() for peer in peers))
            if not all(taken):
                raise BroadcastError("a process on the local bus does not take it")

    def _close_peers(self) -> None:
        if self._server is None and self._sending is None:
            for peer in list(self._peers.values()):
                peer.close()

    async def neighbours(self) -> list[str]:
        """Return the addresses of the other processes that serve clients."""
        found = neighbours() if self._server is None else await self._look()
        return [one.address for one in found if one.serves]

    # --------------------------------------------------------------- connections

    def _connected(self) -> None:
        """Look who is there: somebody has connected."""
        self._is_new = True
        if self._looking is None or self._looking.done():
            self._looking = begin(self._look_later())

    async def _look_later(self) -> None:
        while self._is_new:  # who connects meanwhile may not be seen yet
            self._is_new = False
            try:
                await self._look()
            except OSError as error:
                logger.warning("cannot look for other processes: %s", error)

    async def _look(self, must_reach: bool = False) -> list[Neighbour]:
        """Connect to the processes that are new, and return all.

        `must_reach` makes it raise BroadcastError for one that lives and takes no connection.
        Raises OSError if the folder cannot be read.
        """
        async with self._looks:
            found = neighbours()
            if self._carries:
                new = [one for one in found if one.address not in self._peers]
                failed = await asyncio.gather(*map(self._connect, new))
                if must_reach and any(failed):
                    raise _as_broadcast_error(next(filter(None, failed)))
        return found

    async def _connect(self, process: Neighbour) -> OSError | None:
        """Connect; return the error, unless the process has just ended, or does not listen yet."""
        try:
            await connect(process, self._peers)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:  # TimeoutError is one
            logger.warning("a process on the local bus is not reached: %s", error)
            return error
        if self._server is not None and (peer := self._peers.get(process.address)):
            peer.write(encode({"hello": self.address}))
        return None


def _as_broadcast_error(error: OSError | BroadcastError) -> BroadcastError:
    if isinstance(error, BroadcastError):
        return error
    return BroadcastError(
        f"a process on the local bus is not reached: {describe(error)}"
    )
