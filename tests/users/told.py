"""What the receivers of the signals heard, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from phx_protocol import signals

NAMES = ("user_online", "user_offline", "topic_occupied", "topic_vacated")


class Said(NamedTuple):
    signal: str
    name: str


class Told:
    """Connects a receiver to each of the signals."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.ids: list[str] = []
        self._news = asyncio.Event()

    @contextlib.contextmanager
    def listening(self, names: tuple[str, ...] = NAMES) -> Iterator[None]:
        receivers = {name: self._receiver(name) for name in names}
        for name, receiver in receivers.items():
            getattr(signals, name).connect(receiver)
        try:
            yield
        finally:
            for name, receiver in receivers.items():
                getattr(signals, name).disconnect(receiver)

    def _receiver(self, name: str) -> Any:
        async def receive(sender: Any, **named: Any) -> None:
            self.said.append(
                Said(name, named["topic" if name.startswith("topic") else "user"])
            )
            self.ids.append(named["id"])
            self._news.set()

        return receive

    async def until(self, *said: tuple[str, str]) -> None:
        """Wait until this was said, and nothing else; of each name in this order."""
        async with asyncio.timeout(20):
            while len(self.said) < len(said):
                self._news.clear()
                await self._news.wait()
        assert by_name(self.said) == by_name(said)


def by_name(said: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for signal, name in said:
        found.setdefault(name, []).append(signal)
    return found


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    with told.listening():
        yield told
