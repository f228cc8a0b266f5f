"""What ``online()`` of 500 users costs its caller while 10,000 are connected: CPU, and round trips.

python -m benchmarks.online [--calls N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.support import servers

CONNECTED, ASKED = 10_000, 500


async def measure(calls: int) -> None:
    from phx_protocol.node.node import get_node
    from phx_protocol.state.occupancy import USER, Mark
    from phx_protocol.users import aonline

    occupancy = get_node().heartbeat.state.occupancy(USER)
    marks = [Mark(f"{key}", True) for key in range(CONNECTED)]
    started = time.process_time()
    await occupancy.mark("a node", marks, 5.0)
    wrote = time.process_time() - started
    took = []
    for number in range(calls):
        # every second one is not connected
        users = [(number + 2 * i * 10) % (2 * CONNECTED) for i in range(ASKED)]
        started = time.process_time()
        found = await aonline(users)
        took.append(time.process_time() - started)
        assert found == {user for user in users if user < CONNECTED}
    print(f"online({ASKED} users): {median(took) * 1000:.2f} ms of CPU")
    print(f"a user who comes or goes: {wrote / CONNECTED * 1e6:.0f} us of CPU")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--calls", type=int, default=200)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers.redis(Path(folder)) as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.conformance.settings"
        os.environ |= {"PHX_LAYER": "redis", "PHX_REDIS_URL": url}
        import django
        from django.conf import settings

        settings.PHX_PROTOCOL = {
            "TRACK_USERS": True,
            "STATE": {"PREFIX": secrets.token_hex(4)},
        }
        django.setup()
        asyncio.run(measure(o.calls))


if __name__ == "__main__":
    main()
