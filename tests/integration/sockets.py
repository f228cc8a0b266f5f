from __future__ import annotations

from tests.conformance.channels import ConformanceSocket


class SmallSocket(ConformanceSocket):
    """Little may wait, and not for long."""

    outbound = {"bytes": 200_000, "seconds": 1, "hard_bytes": 4_000_000}
    max_frame_size = 200_000
    max_topic_length = 100
    inbound = 50


class PolledSocket(ConformanceSocket):
    """Its polls end soon."""

    longpoll = {"WINDOW": 2}
