"""What an extension of a node can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from django.core.signing import BadSignature

from phx_protocol import StateError
from phx_protocol.auth.credentials import Claim
from phx_protocol.node.connections import Body, Command
from phx_protocol.node.node import Node, get_node
from phx_protocol.node.part import PARTS, Part


class Extension(Part):
    """Executes ``note``, refuses the user "eve", and counts its beats."""

    beats_without_state = True

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.noted: list[Body] = []
        self.beats = 0

    @property
    def commands(self) -> Mapping[str, Command]:
        return {"note": self.noted.append}

    async def beat(self) -> None:
        self.beats += 1

    async def check(self, claim: Claim) -> None:
        if claim.user == "eve":
            raise BadSignature("not eve")


class Ordinary(Extension):
    beats_without_state = False


@pytest.fixture(autouse=True)
def _in_every_node() -> Iterator[None]:
    PARTS.extend([Extension, Ordinary])
    yield
    del PARTS[-2:]


async def test_a_part_executes_the_commands_of_its_own() -> None:
    node = get_node()
    await node.commands.send("note", {"n": 1})
    assert node.part(Ordinary).noted == [{"n": 1}]
    with pytest.raises(KeyError):
        node.connections.execute("unknown", {})


async def test_a_part_can_refuse_a_token_and_the_others_let_all_pass() -> None:
    await get_node().check(Claim((), "ada", None))
    with pytest.raises(BadSignature, match="not eve"):
        await get_node().check(Claim((), "eve", None))


async def test_while_the_state_fails_only_parts_beat_that_do_not_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*args: object, **kwargs: object) -> bool:
        raise StateError("the state is away")

    node = get_node()
    await node.heartbeat.beat()
    monkeypatch.setattr(node.heartbeat.state, "beat", fails)
    await node.heartbeat.beat()
    assert (node.part(Extension).beats, node.part(Ordinary).beats) == (2, 1)
