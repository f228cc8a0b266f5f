"""The checks of Socket and Channel classes."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from django.db import transaction

from phx_protocol import Channel, Socket, event
from tests.checks.found import found_in


class Plain(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"


class Joinless(Channel):
    pass


class Unspanned(Plain):
    @event("save")
    @transaction.atomic
    async def save(self, payload: Any) -> Any:
        return "ok"

    @event("fine")
    @transaction.atomic
    def fine(self, payload: Any) -> Any:
        return "ok"


class UnspannedSocket(Socket):
    @transaction.atomic(savepoint=False)
    async def connect(self, params: Any) -> None: ...


class ThreadsSocket(Socket):
    channels = {"a": Plain}
    callbacks_in_threads = True


class InThreads(Channel):
    def join(self, payload: Any) -> Any:  # type: ignore[override]
        return "ok"

    @event("save")
    def save(self, payload: Any) -> Any:
        return "ok"


class GoodThreadsSocket(ThreadsSocket):
    channels = {"a": InThreads}

    def connect(self, params: Any) -> None: ...  # type: ignore[override]


class AsyncThreadsSocket(GoodThreadsSocket):
    async def connect(self, params: Any) -> None: ...  # type: ignore[override]


class Deaf(Plain):
    async def handle_out(self, event: str, payload: Any) -> None: ...


class Unknown(Plain):
    @event("new_msg")
    async def new_msg(self, payload: NotImported) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return "ok"


class Unchecked(Plain):
    pushes = {"new_msg": Plain}  # a class of which nobody knows how it is checked


class Answering(Plain):
    @event("new_msg")
    async def new_msg(self, payload: Any) -> tuple[Literal["ok"], Plain]:
        return "ok", self


class BadSocket(Socket):
    channels = {"a*b": Plain}
    check_origin = "no.such.function"


HERE = __name__
ROOM = {"room:*": f"{HERE}.Plain"}


@pytest.mark.parametrize(
    "phx, django, found",
    [
        ({"CHANNELS": ROOM}, {}, set()),
        ({"CHANNELS": {"a*b": f"{HERE}.Plain"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": "no.such.Class"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": f"{HERE}.found_in"}}, {}, {"E004"}),
        ({"CHANNELS": {"a": f"{HERE}.Joinless"}}, {}, {"E005"}),
        ({"SOCKETS": {"socket": "phx_protocol.Socket"}}, {}, {"E006"}),
        ({"SOCKETS": {"/socket": f"{HERE}.Plain"}}, {}, {"E006"}),
        ({"SOCKETS": {"/socket": f"{HERE}.BadSocket"}}, {}, {"E004", "E008"}),
        (
            {"CHANNELS": {"room:*": f"{HERE}.Plain", "room:a": f"{HERE}.Plain"}},
            {},
            {"W004"},
        ),
        ({"CHANNELS": {"a": f"{HERE}.Deaf"}}, {}, {"W005"}),
        ({"CHANNELS": {"a": f"{HERE}.Unspanned"}}, {}, {"W007"}),
        ({"SOCKETS": {"/a": f"{HERE}.UnspannedSocket"}}, {}, {"W007"}),
        ({"SOCKETS": {"/a": f"{HERE}.ThreadsSocket"}}, {}, {"E017"}),
        ({"SOCKETS": {"/a": f"{HERE}.AsyncThreadsSocket"}}, {}, {"E017"}),
        ({"SOCKETS": {"/a": f"{HERE}.GoodThreadsSocket"}}, {}, set()),
        ({"CHANNELS": {"a": f"{HERE}.Unknown"}}, {}, {"E016"}),
        ({"CHANNELS": {"a": f"{HERE}.Unchecked"}}, {}, {"E016"}),
        ({"CHANNELS": {"a": f"{HERE}.Answering"}}, {}, {"E016"}),
    ],
)
def test_each_mistake_in_a_class_is_found(
    phx: Any, django: dict[str, Any], found: set[str]
) -> None:
    assert found_in(phx, django) == found
