"""Whatever happens to clients of two processes: each shows a topic with a history
in order, without gaps or repeats, or it has learned of the loss."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from .history_tab import Cluster, Ledger, Room, Tab, at_rest, cluster_on, tabs_of

LAYERS = ["redis", pytest.param("core-default", marks=pytest.mark.big)]
KINDS = ["kept", "masked", "full"]
#: how often each way to broadcast is taken
WAYS = {"say": 3, "announce": 2, "whisper": 2}


@pytest.fixture(scope="module", params=LAYERS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with cluster_on(tmp_path_factory.mktemp("recovery"), request.param) as cluster:
        yield cluster


class Script:
    """Tabs that do this and that, each at its own pace."""

    def __init__(self, cluster: Cluster, name: str, seed: int, tabs: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.topics = [f"{kind}:{name}-{seed}" for kind in KINDS]
        self.names = [f"tab{n}" for n in range(tabs)]
        self.tabs = [Tab(name, self.ledger, *self.topics) for name in self.names]
        # it only looks on, so that every broadcast is seen by somebody
        self.watcher = Tab("watcher", self.ledger, *self.topics)

    async def run(self, steps: int, losses: int) -> None:
        await self.watcher.enter(self.cluster.one)
        await asyncio.gather(*(self._come(tab) for tab in self.tabs))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lose(losses))
                for tab in self.tabs:
                    group.create_task(self._live(tab, steps))
            await self._end()
        finally:
            for tab in (*self.tabs, self.watcher):
                if tab.is_open:
                    await tab.exit()

    async def _end(self) -> None:
        for tab in self.tabs:
            if not tab.is_open:
                await self._come(tab)
        everybody = [self.watcher, *self.tabs]
        for topic in self.topics:
            await at_rest(topic, self.watcher, *everybody)
        for tab in everybody:
            for room in tab.rooms.values():
                self.ledger.check(room, at_rest=True)
                # the state never failed: everything was kept
                assert not any(view.loose for view in room.views)
        self.ledger.check_senders()

    # ------------------------------------------------------------- what happens

    async def _live(self, tab: Tab, steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(self.chance.uniform(0, 0.08))
            step = self.chance.choices(
                [self._talk, self._go, self._join_again], [0.75, 0.18, 0.07]
            )[0]
            await step(tab)

    async def _lose(self, losses: int) -> None:
        for n in range(losses):
            await asyncio.sleep(self.chance.uniform(0.5, 1.2))
            if n % 2:
                self.cluster.client.flushall()
            else:
                self.cluster.reset(self.chance.choice(self.topics))

    async def _talk(self, tab: Tab) -> None:
        topic = self.chance.choice(self.topics)
        replies = []
        for _ in range(self.chance.choice([1, 1, 2, 3, 8])):
            way = self.chance.choices(list(WAYS), list(WAYS.values()))[0]
            payload: dict[str, float] = {}
            not_for: tuple[str, ...] = ()
            if topic.startswith("full") and self.chance.random() < 0.3:
                way = "say_other"
            elif not topic.startswith("kept"):
                if self.chance.random() < 0.3:
                    not_for = tuple(self.chance.sample(self.names, 2))
                if self.chance.random() < 0.2:
                    payload["takes"] = self.chance.choice([0.005, 0.02])
            replies.append((await tab.say(topic, way, not_for, **payload))[1])
        if self.chance.random() < 0.5:
            # who goes away, or joins again, at once may never get the last of them
            await asyncio.wait(replies, timeout=0.5)

    async def _go(self, tab: Tab) -> None:
        await self.chance.choice([tab.exit, tab.cut])()
        # in the longest of these more is broadcast than is kept
        await asyncio.sleep(self.chance.choice([0, 0.02, 0.1, 0.3, 0.8]))
        await self._come(tab)

    async def _come(self, tab: Tab) -> None:
        await tab.enter(self.chance.choice(self.cluster.servers), by_line=True)
        for room in tab.rooms.values():
            self.ledger.check(room)

    async def _join_again(self, tab: Tab) -> None:
        """While the server thinks that it is there: its join timed out."""
        topic = self.chance.choice(self.topics)
        first = asyncio.create_task(tab.join(topic, slow=0.05))
        await asyncio.sleep(self.chance.choice([0, 0.02, 0.06]))
        await tab.join(topic)
        await first
        self.ledger.check(tab.rooms[topic])

    # -------------------------------------------------------------- what it was

    @property
    def rooms(self) -> list[Room]:
        return [room for tab in self.tabs for room in tab.rooms.values()]


async def play(
    cluster: Cluster, name: str, seed: int, *, tabs: int, steps: int, losses: int
) -> None:
    script = Script(cluster, name, seed, tabs)
    await script.run(steps, losses)
    # all that the script is about has happened
    assert sum(room.recovered for room in script.rooms) >= len(script.tabs)
    assert sum(len(room.views) - 1 for room in script.rooms) > 0
    errors = [error for room in script.rooms for error in room.errors]
    assert all(error == {"reason": "history lost"} for error in errors), errors
    # the core layer may drop more than is kept
    if losses or cluster.layer == "redis":
        assert bool(errors) == bool(losses)


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_show_no_gaps_or_learn_of_them(
    cluster: Cluster, seed: int
) -> None:
    await play(cluster, "small", seed, tabs=6, steps=40, losses=2)


async def test_while_nothing_is_lost_nobody_is_interrupted(cluster: Cluster) -> None:
    await play(cluster, "calm", 3, tabs=6, steps=40, losses=0)


@pytest.mark.big
@pytest.mark.parametrize("seed", range(10, 13))
async def test_many_clients_show_no_gaps_or_learn_of_them(
    cluster: Cluster, seed: int
) -> None:
    await play(cluster, "big", seed, tabs=16, steps=150, losses=seed % 5)


async def test_a_replay_of_the_conformance_application_has_its_secrets(
    cluster: Cluster,
) -> None:
    """A broadcast that is intercepted and withheld live is so in a replay too."""
    topic, ledger = "room:secret", Ledger()
    one, two = cluster.servers
    names = [("alice", one), ("bob", two), ("blocked", two), ("eve", one)]
    seen: dict[str, list[tuple[int, str]]] = {}

    class Secretive(Room):
        def take(self, frame: list[object]) -> None:
            _, _, _, event, payload = frame
            if event == "secret" and isinstance(payload, dict):
                seen.setdefault(self.tab.name, []).append(
                    (payload["i"], payload["for"])
                )
            super().take(frame)

    async with tabs_of(ledger, *names, topics=()) as tabs:
        for tab in tabs:
            tab.rooms[topic] = Secretive(tab, topic, ledger)
            await tab.join(topic)
        alice, bob, blocked, eve = tabs

        async def secrets(*about: Tab) -> list[int]:
            """Three for all but the blocked, and then a shout, which nobody intercepts."""
            said = [
                (await alice.say(topic, "secret", ("blocked",)))[0] for _ in range(3)
            ]
            shout = ledger.send(topic, "shout", "alice", "")
            await alice.push(topic, "shout", {"i": shout})
            for tab in about:
                room = tab.rooms[topic]
                await tab.until(lambda: shout in room.shown, f"waits for {shout}")
            return said

        live = await secrets(*tabs)
        await asyncio.gather(*(tab.exit() for tab in (bob, blocked, eve)))
        missed = await secrets(alice)
        await bob.enter(one)  # to the other process
        await blocked.enter(one)
        await eve.enter(one)
        then = await secrets(*tabs)
        for tab in (alice, bob, eve):
            expected = [(number, tab.name) for number in live + missed + then]
            assert seen[tab.name] == expected
        assert "blocked" not in seen
        for tab in tabs:
            assert len(tab.rooms[topic].views) == 1
            ledger.check(tab.rooms[topic], at_rest=True)
