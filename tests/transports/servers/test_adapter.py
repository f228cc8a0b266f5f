"""A server of which nothing is known but ASGI."""

from __future__ import annotations

from typing import Any

from phx_protocol.transports.servers.adapter import MOST_PARTS, ServerAdapter, joined


class OnlyCodesOfApplications:
    """The ``send`` of autobahn behind a wrapper: it takes 1000 and 3000 to 4999."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    async def send(self, message: dict[str, Any]) -> None:
        code = message["code"]
        if code != 1000 and not 3000 <= code < 5000:
            raise ValueError(code)
        self.codes.append(code)


async def test_a_code_that_the_server_refuses_becomes_one_of_an_application() -> None:
    server = OnlyCodesOfApplications()
    for code in (1011, 4000):
        await ServerAdapter(server.send).close(code, timeout=5)
    assert server.codes == [4011, 4000]


def test_the_many_parts_of_a_message_are_joined() -> None:
    few, many = [b"a"] * (MOST_PARTS - 1), [b"ab"] * MOST_PARTS
    assert joined(few) is few
    assert joined(many) == [b"ab" * MOST_PARTS]
