"""Real runs, as short as they can be; and several of them taken together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.modes import MODES
from benchmarks.runs import Found, drive, together
from tests.support import servers


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def run(mode: str, server: str, redis: servers.Server, **less: Any) -> Found:
    load = {**MODES[mode].options(server, quick=True), "rounds": 1, **less}
    return drive(MODES[mode].driver, server, load, redis, MODES[mode].redis_ms)


def test_small_rooms_report_each_rate_and_redis(redis: servers.Server) -> None:
    found = run("rooms5", "two", redis, rooms=4, rates="50,100", duration=0.5)
    for rate in (50, 100):
        assert found[f"units_{rate}"]["median"] == rate * 0.5
        assert found[f"lost_{rate}"]["max"] == 0
        assert found[f"cpu_us_per_message_{rate}"]["median"] > 0
        assert found[f"beside_us_per_message_{rate}"]["median"] > 0
        assert (
            0 < found[f"p50_ms_{rate}"]["median"] <= found[f"p99_ms_{rate}"]["median"]
        )


def test_the_rate_that_a_distant_redis_bears_is_one_of_those_tried(
    redis: servers.Server,
) -> None:
    less = {"rooms": 4, "rates": "20,40", "duration": 0.5}
    found = run("most", "two", redis, late=10_000, **less)
    assert found["messages_per_s"]["median"] == 40
    found = run("most", "two", redis, late=0.001, **less)
    assert found["messages_per_s"]["median"] == 0  # no delivery is that fast


def test_a_storm_in_memory_joins_new_topics(redis: servers.Server) -> None:
    found = run("storm", "memory", redis, joins=20)
    assert found["units"]["median"] == 20
    assert found["lost"]["max"] == 0
    assert found["cpu_us_per_join"]["median"] > 0


def test_joins_at_once_are_all_answered(redis: servers.Server) -> None:
    found = run("first", "frames", redis, sockets=3, topics=5, rounds=2)
    assert found["units"]["median"] == 15
    assert found["lost"]["max"] == 0
    # each waits for a Redis that is far away
    assert found["seconds"]["min"] * 1000 >= MODES["first"].redis_ms


def test_of_several_passes_the_median_stands_and_a_figure_may_be_missing() -> None:
    passes: list[Found] = [
        {"a": {"min": 1, "median": 2, "max": 3}, "b": {"max": 5}},
        {"a": {"min": 0, "median": 4, "max": 9}},
        {"a": {"min": 2, "median": 3, "max": 4}},
    ]
    assert together(passes) == {
        "a": {"min": 0, "median": 3, "max": 9},
        "b": {"min": 0, "median": 0, "max": 5},
    }
