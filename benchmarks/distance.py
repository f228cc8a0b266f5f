"""A server that is far away: python -m benchmarks.distance PORT TARGET MILLISECONDS

Passes on to TARGET what comes on PORT, half of MILLISECONDS late, and what comes back too.
"""

from __future__ import annotations

import asyncio
import selectors
import sys

from tests.support.tcp_proxy import TcpProxy


def loop() -> asyncio.AbstractEventLoop:
    """select() waits for fractions of a millisecond, which epoll does not."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def run(port: int, target: int, milliseconds: float) -> None:
    proxy = TcpProxy(target, milliseconds / 2000)
    proxy.port = port
    async with proxy:
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    port, target, milliseconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run(int(port), int(target), float(milliseconds)))
