"""A tab with history.js, as far as a server can tell, and what it must have shown.

The numbers of broadcasts are the tests' own; where a broadcast was kept is learnt from all the
tabs that show it. `Ledger.check` says whether a room's view is what it was promised to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from phx_protocol.state import Position
from tests.support import servers
from tests.support.tcp_proxy import TcpProxy
from tests.support.ws_client import TIMEOUT

APPLICATION = "tests.integration.history_app:application"
#: as history.js has it
KEPT = re.compile(r"^[a-z]\w*-\d+$")


@dataclasses.dataclass
class Sent:
    """A broadcast that was asked for."""

    topic: str
    event: str
    tab: str
    #: of one join, whose broadcasts have their order
    join: str
    whispered: bool = False
    not_for: tuple[str, ...] = ()

    def is_for(self, tab: str) -> bool:
        return not (self.whispered and self.tab == tab) and tab not in self.not_for


class Ledger:
    """All broadcasts, and where they were kept."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self.kept: dict[tuple[str, Position], int] = {}
        self.places: dict[int, Position] = {}
        self._numbers = itertools.count()

    def send(self, *args: Any, **kwargs: Any) -> int:
        number = next(self._numbers)
        self.sent[number] = Sent(*args, **kwargs)
        return number

    def take(self, topic: str, position: Position, number: int) -> None:
        """Note that a tab shows it; all tabs must agree."""
        assert self.sent[number].topic == topic
        assert self.kept.setdefault((topic, position), number) == number
        assert self.places.setdefault(number, position) == position, number

    def check(self, room: Room, *, at_rest: bool = False) -> None:
        """Check that `room` shows all, in order and once, except where it learned of a loss."""
        for view in room.views:
            self._check(room, view, at_rest)

    def _check(self, room: Room, view: View, at_rest: bool) -> None:
        tab, n = room.tab.name, view.since.n if view.since else None
        unseen = [
            number
            for number, sent in self.sent.items()
            if sent.topic == room.topic
            and number not in self.places
            and not sent.is_for(tab)
        ]
        for position, number in view.shown:
            assert view.since is None or position.epoch == view.since.epoch
            assert self.sent[number].is_for(tab), f"{number} was not for {tab}"
            if n is not None:
                assert position.n > n, f"{tab} is shown {position} after {n}"
                for between in range(n + 1, position.n):
                    missing = self.kept.get(
                        (room.topic, Position(position.epoch, between))
                    )
                    if missing is not None:
                        said = f"{tab} lacks {missing}, {position.epoch}-{between}"
                        assert not self.sent[missing].is_for(tab), said
                    elif at_rest:  # one that nobody else was shown either
                        assert unseen, f"nobody knows {position.epoch}-{between}"
                        unseen.pop()
            n = position.n
        if view.is_last and view.since is not None:
            last = max((position.n for position, _ in view.shown), default=n or 0)
            for (topic, position), missing in self.kept.items():
                if topic == room.topic and position.epoch == view.since.epoch:
                    said = f"{tab} lacks {missing}, {position}: it came before the topic moved"
                    assert position.n <= last or not self.sent[missing].is_for(
                        tab
                    ), said

    def check_senders(self) -> None:
        """Check that the messages of one join are kept in their order."""
        orders: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        for (topic, position), number in self.kept.items():
            key = self.sent[number].join, topic, position.epoch
            orders.setdefault(key, []).append((position.n, number))
        for key, order in orders.items():
            numbers = [number for _, number in sorted(order)]
            assert numbers == sorted(numbers), key


@dataclasses.dataclass
class View:
    """The broadcasts that a room shows since its last loss; `since` is None if there was none.

    Also since the topic moved to another server, where a history of its own begins. `is_last` says that
    nothing may follow in the history that it had before.
    """

    since: Position | None
    is_last: bool = False
    shown: list[tuple[Position, int]] = dataclasses.field(default_factory=list)
    #: what came without an offset
    loose: list[int] = dataclasses.field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.shown]


class Room:
    """One channel of a tab, with history.js."""

    def __init__(
        self, tab: Any, topic: str, ledger: Ledger, *, polls: bool = False
    ) -> None:
        self.tab = tab
        #: then an answer may come twice, if the process that relayed it died
        self.polls = polls
        self.topic = topic
        self.ledger = ledger
        self.state = "closed"
        self.join_ref: str | None = None
        self.have: dict[str, Any] = {"offset": None, "senders": []}
        self.views: list[View] = []
        self.errors: list[Any] = []
        self.recovered = 0  # how often the server said so, and something was missing

    @property
    def view(self) -> View:
        return self.views[-1]

    @property
    def shown(self) -> list[int]:
        """All that it ever showed that was kept."""
        return [number for view in self.views for number in view.numbers]

    def joins(self, ref: str) -> dict[str, Any]:
        """The payload of a join that is sent with `ref`."""
        self.state, self.join_ref = "joining", ref
        # a copy: what is sent does not change
        return {"history": {**self.have, "senders": list(self.have["senders"])}}

    def take(self, frame: list[Any]) -> None:
        """As phoenix.js and history.js do with a frame of this topic."""
        join_ref, ref, _, event, payload = frame
        if join_ref is not None and join_ref != self.join_ref:
            return
        if event == "phx_reply":
            if ref == self.join_ref:
                assert payload["status"] == "ok", payload
                self._joined(payload["response"]["history"])
        elif event in ("phx_error", "phx_close"):
            self.state = "errored"
            self.errors.append(payload)
        elif ref is not None and KEPT.match(ref):
            position, last = Position.parse(ref), Position.parse(self.have["offset"])
            assert position is not None
            if last and last.epoch == position.epoch and position.n <= last.n:
                assert self.polls, f"{self.tab.name} is given {position} again"
            elif self.state == "joined":
                if last and last.epoch != position.epoch:
                    self.view.is_last = True
                    self.views.append(View(Position(position.epoch, 0)))
                self.have["offset"] = ref
                self.view.shown.append((position, payload["i"]))
                self.ledger.take(self.topic, position, payload["i"])
        else:
            self.view.loose.append(payload["i"])

    def _joined(self, history: dict[str, Any]) -> None:
        self.state = "joined"
        if not history["recovered"]:
            self.have["offset"] = history["offset"]
            self.views.append(View(Position.parse(history["offset"])))
        elif history["offset"] != self.have["offset"]:
            self.recovered += 1
        self.have["senders"] = [*self.have["senders"][-19:], history["sender"]]


class Tab:
    """A client of one of several servers. It joins its rooms again whenever it must."""

    def __init__(self, name: str, ledger: Ledger, *topics: str) -> None:
        self.name = name
        self.refs = itertools.count(1)
        self.rooms = {topic: Room(self, topic, ledger) for topic in topics}
        self.failure: BaseException | None = None
        self._connections = 0
        self._ledger = ledger
        self._replies: dict[str, asyncio.Future[Any]] = {}
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._rejoins: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self.ws: ClientConnection

    async def enter(self, server: servers.Server, *, by_line: bool = False) -> Tab:
        """Connect, and join all rooms."""
        port = server.port
        self._connections += 1
        self._line: TcpProxy | None = None
        if by_line:
            self._line = await self._stack.enter_async_context(TcpProxy(port))
            port = self._line.port
        url = f"ws://127.0.0.1:{port}/socket/websocket?vsn=2.0.0"
        url += f"&user={self.name}&user_id={self.name}"
        limits: dict[str, Any] = {"max_size": None, "max_queue": None}
        self.ws = await connect(url, ping_interval=None, proxy=None, **limits)
        self._reading = asyncio.create_task(self._read())
        await asyncio.gather(*(self.join(topic) for topic in self.rooms))
        return self

    async def join(self, topic: str, **params: Any) -> None:
        """Join, or join again; returns when the room has joined, by whatever join."""
        await self._send_join(topic, **params)
        await self.until(
            lambda: self.rooms[topic].state == "joined" or not self.is_open
        )

    async def _send_join(self, topic: str, **params: Any) -> None:
        ref = str(next(self.refs))
        payload = {**self.rooms[topic].joins(ref), **params}
        await self._send([ref, ref, topic, "phx_join", payload])

    async def _send(self, frame: list[Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.ws.send(json.dumps(frame))

    async def push(self, topic: str, event: str, payload: Any) -> asyncio.Future[Any]:
        ref = str(next(self.refs))
        reply = self._replies[ref] = asyncio.get_running_loop().create_future()
        await self._send([self.rooms[topic].join_ref, ref, topic, event, payload])
        return reply

    async def ask(self, topic: str, event: str, payload: Any) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await (await self.push(topic, event, payload))

    async def say(
        self,
        topic: str,
        event: str = "say",
        not_for: tuple[str, ...] = (),
        **payload: Any,
    ) -> tuple[int, asyncio.Future[Any]]:
        """Have something broadcast; returns its number, and the reply when it comes."""
        name = {"say_other": "other", "secret": "secret"}.get(event, "msg")
        join = f"{self.name} {self._connections} {self.rooms[topic].join_ref}"
        whispered = event == "whisper"
        number = self._ledger.send(topic, name, self.name, join, whispered, not_for)
        payload.update(i=number, **({"not_for": not_for} if not_for else {}))
        return number, await self.push(topic, event, payload)

    async def _read(self) -> None:
        try:
            async for text in self.ws:
                frame = json.loads(text)
                if frame[3] == "phx_reply" and frame[1] in self._replies:
                    self._replies.pop(frame[1]).set_result(frame[4]["status"])
                elif room := self.rooms.get(frame[2]):
                    room.take(frame)
                    if room.state == "errored":
                        self._join_again(room)
                self._news.set()
        except ConnectionClosed:
            pass
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for room in self.rooms.values():
                room.state = "errored"
            self._news.set()

    def _join_again(self, room: Room) -> None:
        async def soon() -> None:
            await asyncio.sleep(0.03)
            if room.state == "errored" and self.is_open:
                await self._send_join(room.topic)

        task = asyncio.create_task(soon())
        self._rejoins.add(task)
        task.add_done_callback(self._rejoins.discard)

    async def exit(self) -> None:
        """Leave cleanly."""
        await self.ws.close()
        await self._end()

    async def cut(self) -> None:
        """The line is cut: nothing that is on its way arrives."""
        assert self._line is not None
        await self._line.cut()
        await self._end()

    async def _end(self) -> None:
        if self._reading is not None:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.wait({self._reading})
        for reply in self._replies.values():
            reply.cancel()
        self._replies.clear()
        await self._stack.aclose()
        if self.failure is not None:
            raise self.failure

    @property
    def is_open(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait for something that a frame makes true."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while not condition() and self.failure is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            views = {topic: room.views[-1:] for topic, room in self.rooms.items()}
            raise AssertionError(f"{self.name}: {what} {str(views)[-1500:]}") from None
        if self.failure is not None:
            raise self.failure


async def at_rest(topic: str, speaker: Tab, *tabs: Tab) -> None:
    """Until all `tabs` show the same last broadcast: none lacks anything that came before it.

    A tab that learns meanwhile of a loss is asked again.
    """
    for _ in range(10):
        rooms = [tab.rooms[topic] for tab in tabs]
        await speaker.until(lambda: speaker.rooms[topic].state == "joined")
        before = [len(room.views) for room in rooms]
        spoken, join_ref = speaker.rooms[topic], speaker.rooms[topic].join_ref
        last, reply = await speaker.say(topic)
        await speaker.until(
            lambda: reply.done()
            or spoken.state != "joined"
            or spoken.join_ref != join_ref,
            f"waits for the answer to {last} in {topic}",
        )
        if not reply.done() or reply.result() != "ok":
            continue  # its channel ended before the reply
        for room, views in zip(rooms, before):
            await room.tab.until(
                lambda: last in room.view.numbers or len(room.views) > views,
                f"waits for {last} in {topic}",
            )
        if all(last in room.view.numbers for room in rooms):
            return
    raise AssertionError(f"{topic} does not come to rest")


class Cluster:
    """Two processes and their Redis."""

    def __init__(self, directory: Path, layer: str) -> None:
        self.directory = directory
        self.layer = layer
        self.redis_port = servers.free_port()
        self._stack = contextlib.ExitStack()
        self.env = {
            "PHX_LAYER": layer,
            "PHX_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "DJANGO_SETTINGS_MODULE": "tests.integration.history_settings",
        }
        try:
            self.start_redis()
            self.client = Redis(port=self.redis_port)
            self._stack.callback(self.client.close)
            self.one, self.two = self.start("one"), self.start("two")
        except BaseException:
            self._stack.close()
            raise

    @property
    def servers(self) -> tuple[servers.Server, servers.Server]:
        return self.one, self.two

    def start_redis(self) -> None:
        """An empty Redis, where the last one was."""
        self.redis = self._stack.enter_context(
            servers.redis(self.directory, self.redis_port)
        )

    def start(self, name: str) -> servers.Server:
        return self._stack.enter_context(
            servers.serve("uvicorn", self.directory / name, APPLICATION, **self.env)
        )

    def close(self) -> None:
        self._stack.close()

    def reset(self, topic: str) -> None:
        """As a node does that could not keep a broadcast."""
        for kind in ("head", "history"):
            keys = list(self.client.scan_iter(f"asgi:phx:*:{kind}:{topic}"))
            if keys:
                self.client.delete(*keys)


@contextlib.contextmanager
def cluster_on(directory: Path, layer: str) -> Iterator[Cluster]:
    cluster = Cluster(directory, layer)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.asynccontextmanager
async def tabs_of(
    ledger: Ledger, *wanted: tuple[str, servers.Server], topics: tuple[str, ...]
) -> AsyncIterator[list[Tab]]:
    """Tabs that have joined all `topics`, and leave at the end."""
    tabs = [Tab(name, ledger, *topics) for name, _ in wanted]
    try:
        for tab, (_, server) in zip(tabs, wanted):
            await tab.enter(server)
        yield tabs
    finally:
        for tab in tabs:
            if tab.is_open:
                await tab.exit()
