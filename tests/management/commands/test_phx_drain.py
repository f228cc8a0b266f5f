"""phx_drain, run as a user would: one of two processes, or both."""

from __future__ import annotations

import re

import pytest

from tests.support.commands import Two, run, table, two
from tests.support.ws_client import Client

__all__ = ["two"]


async def test_a_process_is_drained_and_takes_up_again(two: Two) -> None:
    one, other, _ = two
    pid = str(one.process.pid)
    async with Client(one.url) as first, Client(other.url) as second:
        await first.join("room:1")
        await second.join("room:1")
        status, out, err = await run(two, "phx_drain", pid)
        assert (status, err) == (0, "")
        assert re.fullmatch(r"\w+ \(.+:%s\) drained of 1 sockets\.\n" % pid, out)
        assert await first.closed() == 1012
        assert (await second.ask("room:1", "echo", {"a": 1}))[0] == "ok"
        rows = (await table(two, "phx_nodes"))[1:]
        assert {row[2]: row[-1] for row in rows}[pid] == "draining"
        with pytest.raises(Exception, match="503"):
            async with Client(one.url):
                pass
        status, out, err = await run(two, "phx_drain", pid, "--resume")
        assert (status, err) == (0, "") and "takes connections again" in out
        async with Client(one.url) as again:
            await again.join("room:1")


async def test_all_processes_are_drained_only_when_that_is_meant(two: Two) -> None:
    async with Client(two.one.url) as first, Client(two.other.url) as second:
        for client in (first, second):
            await client.join("room:1")
        status, out, err = await run(two, "phx_drain", typed="n\n")
        assert (status, err) == (1, "CommandError: nothing was drained\n")
        assert out.startswith("Drain all 2 processes?")
        assert (await first.ask("room:1", "echo", {}))[0] == "ok"
        status, out, err = await run(two, "phx_drain", "--no-input")
        assert (status, out.count("drained of 1 sockets")) == (0, 2)
        assert await first.closed() == await second.closed() == 1012
        assert (await run(two, "phx_drain", "--resume"))[0] == 0


async def test_a_node_that_is_not_there_is_an_error(two: Two) -> None:
    status, _, err = await run(two, "phx_drain", "nowhere")
    assert status == 1
    assert err == "CommandError: there is no node nowhere; phx_nodes lists them\n"
