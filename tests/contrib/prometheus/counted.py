"""The counts since a test began."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from phx_protocol.contrib.prometheus import counters, gauges

ROOM, DOORS = "tests.contrib.rooms.Room", "tests.contrib.rooms.Doors"

# what a sample is called, with the values of its labels -> its value
Values = Counter[str]


def values(families: Any) -> Values:
    """The samples that count something, as ``phx_joins_total ok tests...Room``."""
    found: Values = Counter()
    for family in families:
        for sample in family.samples:
            if re.fullmatch(r"phx_\w+(?<!_sum)(?<!_created)(?<!_bucket)", sample.name):
                labels = [v for _, v in sorted(sample.labels.items())]
                found[" ".join([sample.name, *labels])] += sample.value
    return found


def expected(**wanted: Any) -> Values:
    """Return ``phx_joins_total={"Room ok": 1}`` in the form of ``values``, with full class names."""
    return Counter(
        {
            " ".join([name, *label.split()])
            .replace("Room", ROOM)
            .replace("Doors", DOORS): count
            for name, labels in wanted.items()
            for label, count in (
                labels if isinstance(labels, dict) else {"": labels}
            ).items()
        }
    )


@pytest.fixture
def counted() -> Iterator[Callable[[], Values]]:
    """Return the counts since the test began."""
    counters.install()
    gauges.install()
    before = values(REGISTRY.collect())

    def since() -> Values:
        now = values(REGISTRY.collect())
        return Counter({k: v - before[k] for k, v in now.items() if v != before[k]})

    yield since
    for receivers in (counters.RECEIVERS, gauges.RECEIVERS):
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
