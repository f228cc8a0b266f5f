"""phx_listen, run as a user would: a topic of another process, a line for each broadcast."""

from __future__ import annotations

import asyncio
import json
import re
import signal

from tests.support.commands import Command, Two, two
from tests.support.ws_client import Client

__all__ = ["two"]


async def test_a_topic_is_listened_to(two: Two) -> None:
    listening = await Command.start(two.env, "phx_listen", "room:1")
    await listening.until_ready()
    as_json = await Command.start(
        *(two.env, "phx_listen", "room:1", "room:2"),
        *("--json", "--count", "2", "--event", "shout", "--verbosity", "2"),
    )
    async with Client(two.one.url) as client:
        await client.join("room:1")
        printed = asyncio.create_task(as_json.ended())
        while not printed.done():  # the second says nothing when it is ready
            await client.push("room:1", "shout", {"body": "hi\x1b[2J"})
            await asyncio.wait({printed}, timeout=0.1)
        line = await listening.line()
        assert re.fullmatch(
            r'\d\d:\d\d:\d\d room:1 shout {"body": "hi\\u001b\[2J"}\n', line
        )
    status, out, _ = printed.result()
    assert status == 0
    first, second = map(json.loads, out.splitlines())
    assert (first["topic"], first["event"]) == ("room:1", "shout")
    assert first["payload"] == {"body": "hi\x1b[2J"}
    listening.process.send_signal(signal.SIGINT)
    assert (await listening.ended())[0] == 0
