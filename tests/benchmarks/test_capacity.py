"""The calculation of a site's needs."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import capacity
from benchmarks.capacity import (
    BUSY,
    CLIENTS,
    NEEDS,
    PARTS,
    PER_MESSAGE,
    Costs,
    Load,
    Message,
    need,
)
from benchmarks.modes import MODES

IDLE = Message(handle=60, publish=50, receive=140, redis_alone=20, redis_each=18)
BUSIER = Message(handle=50, publish=40, receive=100, redis_alone=15, redis_each=13)
COSTS = Costs(
    messages={500: IDLE, 2000: BUSIER, 5000: BUSIER},
    delivery=6,
    wide_delivery=10,
    join=400,
    heartbeat=40,
    kib=20,
)


def rates(**figures: dict[int, float]) -> dict[str, dict[str, float]]:
    return {
        f"{what}_us_per_message_{rate}": {"median": value}
        for what, of_rate in figures.items()
        for rate, value in of_rate.items()
    }


def test_the_parts_follow_from_memory_one_process_and_two() -> None:
    whole: Any = {
        "rooms5": {
            "memory": rates(cpu={500: 90, 2000: 80, 5000: 80}),
            "frames": rates(
                cpu={500: 140, 2000: 120, 5000: 120},
                beside={500: 20, 2000: 15, 5000: 15},
            ),
            "two": rates(
                cpu={500: 280, 2000: 220, 5000: 220},
                beside={500: 36, 2000: 26, 5000: 26},
            ),
        },
        "rooms50": {"memory": rates(cpu={500: 360})},  # 45 deliveries more
        "paced": {"frames": {"cpu_us_per_delivery": {"median": 10}}},
        "storm": {"frames": {"cpu_us_per_join": {"median": 400}}},
        "idle": {
            "frames": {
                "cpu_us_per_heartbeat": {"median": 40},
                "rss_kib_per_socket": {"median": 20},
            }
        },
    }
    assert Costs.of(whole) == COSTS
    assert {mode: set(servers) for mode, servers in whole.items()} == {
        mode: set(servers) for mode, servers in NEEDS.items()
    }


def test_every_cost_is_shown_and_every_figure_it_needs_is_measured() -> None:
    assert {"messages", *PARTS} == set(Costs.__dataclass_fields__)
    assert set(PER_MESSAGE) == set(Message.__dataclass_fields__)
    for mode, names in NEEDS.items():
        assert set(names) <= set(MODES[mode].servers)


@pytest.mark.parametrize(
    ("rate", "message"), [(10, IDLE), (500, IDLE), (1999, IDLE), (2000, BUSIER)]
)
def test_a_message_costs_what_it_does_at_the_next_lower_rate(
    rate: float, message: Message
) -> None:
    assert COSTS.message(rate) is message


@pytest.mark.parametrize(
    ("room", "processes", "others"),
    [(5, 1, 0), (5, 2, 1), (5, 9, 4), (1, 1, 0), (1, 9, 1)],
)
def test_a_message_goes_to_the_other_processes_that_have_clients_of_the_room(
    room: int, processes: int, others: int
) -> None:
    assert Load("", 1000, room, 1).others(processes) == others


def test_what_was_measured_comes_out_again() -> None:
    load = Load("", 0, 5, 2000)
    assert capacity.busy(load, COSTS, 1, in_memory=True) == pytest.approx(2000 * 80e-6)
    assert capacity.busy(load, COSTS, 1) == pytest.approx(2000 * 120e-6)
    assert capacity.busy(load, COSTS, 2) == pytest.approx(2000 * 220e-6)
    assert capacity.redis_busy(load, COSTS, 1) == pytest.approx(2000 * 15e-6)
    assert capacity.redis_busy(load, COSTS, 2) == pytest.approx(2000 * 26e-6)


def test_a_load_that_fits_one_process_needs_one() -> None:
    assert need(Load("quiet", 1000, 1, 1), COSTS).processes == 1
    assert need(Load("many", CLIENTS + 1, 1, 1), COSTS).processes == 2


def test_a_busy_site_has_the_fewest_processes_of_which_none_has_too_much() -> None:
    load = Load("chat", 10_000, 50, 5000)
    needed = need(load, COSTS)

    def cores(processes: int) -> float:
        return capacity.busy(load, COSTS, processes)

    assert needed.processes > 2
    assert cores(needed.processes) <= BUSY * needed.processes
    assert cores(needed.processes - 1) > BUSY * (needed.processes - 1)
    assert needed.redis_cores == capacity.redis_busy(load, COSTS, needed.processes)
    assert needed.gib > 10_000 * 20 / 1024**2


def test_small_rooms_that_are_too_much_for_their_processes_are_marked() -> None:
    head, *rows = capacity.rooms(COSTS)
    shown = {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}
    assert shown["5", "2,000"]["one process in memory"] == "0.16"
    assert shown["50", "5,000"]["one process in memory"] == "**1.75**"
    assert shown["5", "2,000"]["processes"] == "1"
