"""How long a process of a test is on lease, and what ends that.

A busy machine may keep a process from beating for seconds. So no test takes a short lease but one in which
it has to run out by itself; the others end it. Beats are frequent all the same: tests wait for them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from redis import Redis

from tests.support import servers

#: the seconds of a lease, and of one that a test waits for: those who live hold it, too
LEASE, SHORT = 30.0, 6.0
#: seconds between two beats
BEAT = 0.5


def state() -> dict[str, Any]:
    """The setting STATE of a process; PHX_LEASE in its environment is another lease."""
    return {"LEASE": float(os.environ.get("PHX_LEASE", LEASE))}


def beat_often() -> None:
    """Beat as with a lease of two seconds, in this process."""
    from phx_protocol.state import State

    State.beat_every = BEAT  # type: ignore[assignment, method-assign]


@contextlib.contextmanager
def frequent_beats() -> Iterator[None]:
    """Beat so in the process of a test, for a while."""
    from phx_protocol.state import State

    before = State.__dict__["beat_every"]
    beat_often()
    try:
        yield
    finally:
        State.beat_every = before  # type: ignore[method-assign]


def end(client: Redis[bytes], server: servers.Server) -> None:
    """End the lease of `server`, which is dead or paused: others find it so at their next beat."""
    pattern, ended = "*}*:abouts", 0
    for abouts in client.scan_iter(pattern):
        for node, about in client.hgetall(abouts).items():
            if json.loads(about)["pid"] == server.process.pid:
                leases = abouts.removesuffix(b":abouts") + b":leases"
                ended += client.zadd(leases, {node: 1}, xx=True, ch=True)
    assert ended == 1, f"{ended} leases of {server.process.pid}"
