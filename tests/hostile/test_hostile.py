"""The worst that passes each limit, beside twenty honest clients.

In every run memory is asserted; in the big one also how much slower the honest clients are than
without it, and for how long the loop was held, in units of what the worst frame takes here. There
are kinds of attacks, of which the dearest is run; `tests.hostile.measure` runs any.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from phx_protocol.concurrency.garbage import no_collection
from phx_protocol.wire import json
from tests.hostile.measure import (
    APPLICATION,
    CALM,
    LONG_CALM,
    RISE,
    SERVERS,
    cost,
    echoes,
    honest,
)
from tests.hostile.payloads import PAYLOADS
from tests.support import servers

#: how much slower the slowest hundredth of the honest echoes may be
RATIO = 5
#: MiB that one hostile connection may cost, and twenty
MEMORY, MEMORY_OF_TWENTY = 64, 256
#: MiB by which one run may have more than another one: how much is on its way when one looks
IN_FLIGHT = 16
#: what a turn of the loop has beside the one worst frame: other clients' turns, and noise
MARGIN = 1.6

#: seconds of echoes of which the slowest hundredth counts, which one worst frame is no part of, and
#: of one of the further runs, in which it is seen what is given back
LONG, SHORT = 12, 2
#: seconds until a client has spent its own credit and that of all new clients, before these echoes
LONG_RISE = 5

#: of each server one, which take a few seconds together
QUICK = [
    ("frames", "nested lists as an echo"),
    ("daphne", "nested lists as an event"),
]
#: what one connection costs that comes again with a new account each time: MiB
MEMORY_OF_AGAIN = 128

#: of each kind one
CHOSEN = [
    "nested lists as an echo",
    "nested lists as a broadcast",
    "nested lists of 100 busy channels",
    "nested lists intercepted",
    "objects of a model",
    "long numbers as an echo",
    "text of brackets as an echo",
    "large binary frames",
    "tiny echoes",
    "joins of the same topic",
    "a thousand joins that wait",
    "joins and leaves in emoji",
    "ever new tokens on 100 channels",
    "a history that is claimed by many joins",
    "echoes that nobody reads",
    "a body of a large echo",
]
TWENTY = [
    "nested lists as an echo",
    "nested lists as a join of a typed channel",
    "nested lists as a broadcast",
    "nested lists of a model",
    "nested lists of a busy channel",
    "nested lists of 100 busy channels",
    "nested lists intercepted",
    "nested lists kept in a history",
    "numbers of a model",
    "long numbers as an echo",
    "tiny heartbeats",
    "joins of the same topic",
    "a thousand joins that wait",
    "joins and leaves in emoji",
    "a history that is claimed by many joins",
    "a hundred histories that are full",
    "echoes that nobody reads",
    "a body of a large echo",
    "ever new sessions",
    "answers that nobody reads",
]


def worst_frame() -> float:
    """Milliseconds of processor time that the dearest step with the worst frame takes here: decoding it."""
    text, took = PAYLOADS["nested lists"](), []
    for _ in range(5):
        with no_collection():
            started = time.process_time()
            json.decode(text)
            took.append(time.process_time() - started)
    return min(took) * 1000


@pytest.mark.parametrize("server_name, name", QUICK)
async def test_one_hostile_connection_takes_little_memory_and_all_others_are_answered(
    server_name: str, name: str, tmp_path: Path
) -> None:
    with servers.serve(server_name, tmp_path / "log", APPLICATION) as server:
        async with honest(server) as clients:
            found = await cost(server, clients, name, seconds=1, rise=0)
    assert found.more_memory <= MEMORY, str(found)


@pytest.mark.big
@pytest.mark.parametrize("server_name", SERVERS)
@pytest.mark.parametrize("name", CHOSEN)
async def test_honest_clients_hardly_notice_and_a_third_time_costs_no_more_than_the_first(
    server_name: str, name: str, tmp_path: Path
) -> None:
    with servers.serve(server_name, tmp_path / "log", APPLICATION) as server:
        async with honest(server) as clients:
            await echoes(clients, CALM)  # warm
            runs = [
                await cost(
                    *(server, clients, name),
                    seconds=seconds,
                    rise=rise,
                    calm_seconds=calm,
                )
                for seconds, rise, calm in (
                    (LONG, LONG_RISE, LONG_CALM),
                    (SHORT, RISE, CALM),
                    (SHORT, RISE, CALM),
                )
            ]
    report = "\n".join(map(str, runs))
    print(report)
    assert max(run.more_memory for run in runs) <= MEMORY, report
    # not what is left: Python keeps what one small object in each MiB holds on to, and uses it again
    before = max(max(run.highest, run.memory) for run in runs[:2])
    assert runs[2].highest <= before + IN_FLIGHT, report
    assert runs[0].ratio <= RATIO, report
    assert min(run.held for run in runs) <= MARGIN * worst_frame(), report


@pytest.mark.big
@pytest.mark.parametrize("server_name", SERVERS)
@pytest.mark.parametrize(
    "name",
    ["a few nested lists, and gone", "a few nested lists of busy channels, and gone"],
)
async def test_a_client_that_comes_again_and_again_gets_no_more_of_the_loop(
    server_name: str, name: str, tmp_path: Path
) -> None:
    with servers.serve(server_name, tmp_path / "log", APPLICATION) as server:
        async with honest(server) as clients:
            found = await cost(server, clients, name, seconds=LONG)
    print(found)
    assert found.more_memory <= MEMORY_OF_AGAIN, str(found)
    assert found.processor <= 0.5 * (LONG + RISE), str(found)  # all of it, before


@pytest.mark.big
@pytest.mark.parametrize("server_name", SERVERS)
async def test_twenty_at_once_for_a_minute_cost_memory_that_is_bounded(
    server_name: str, tmp_path: Path
) -> None:
    with servers.serve(server_name, tmp_path / "log", APPLICATION) as server:
        async with honest(server) as clients:
            found = await cost(server, clients, *TWENTY, seconds=60)
    print(found)
    assert found.more_memory <= MEMORY_OF_TWENTY, str(found)
