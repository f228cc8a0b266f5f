"""A process on the local bus: ``python -m tests.bus.peer serving|visiting|silent|forks``.

It says "ready", prints each message that it hears, and sends each line of its input, a JSON object, to
all others. A silent one only takes a place. One that forks has a child that sleeps.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from phx_protocol.bus.bus import Bus  # noqa: E402


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def fork() -> None:
    child = os.fork()
    if child == 0:
        for pipe in (0, 1, 2):  # else its parent would seem to live
            os.close(pipe)
        time.sleep(60)
        os._exit(0)
    say({"child": child})


async def main(kind: str) -> None:
    bus = Bus(say, carries=kind != "silent")
    await bus.open(serves=kind != "visiting")
    if kind == "forks":
        asyncio.get_running_loop().call_later(0.2, fork)
    say("ready" if bus.address or kind == "silent" else "nowhere")
    while line := await asyncio.to_thread(sys.stdin.readline):
        sent = bus.send(json.loads(line))
        if sent is not None:
            await sent
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
