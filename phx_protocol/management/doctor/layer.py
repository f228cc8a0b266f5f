"""The checks of the channel layer, which ask the processes for the doctor's own socket, and of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from phx_protocol.exceptions import StateError, StateRefused
from phx_protocol.introspection import NodeInfo, alist_nodes, sees_only_itself
from phx_protocol.node.node import get_node
from phx_protocol.node.rpc import CALL_TIMEOUT, NoAnswer, call_node
from phx_protocol.state import State, get_state
from phx_protocol.transports.websocket.consumer import HIDDEN

from . import advice
from .findings import Status, Verdict, fault, ok, warning
from .line import line
from .site import Site

#: seconds after which a round trip is slow
SLOW = 0.5
#: sockets that a process is asked for
LIMIT = 10_000


class Told(NamedTuple):
    """What the processes say: how long each took (None: it says nothing), and their sockets."""

    took: list[float | None]
    sockets: set[str]


async def round_trip(site: Site) -> Verdict:
    """Opens a socket, and looks for one that comes and goes with it."""
    # in a thread: it imports a lot, and other checks look at the clock meanwhile
    if await asyncio.to_thread(sees_only_itself):
        return warning("in memory, by these settings", advice.IN_MEMORY)
    try:
        before = await _ask_all()
        async with line(site):
            during = await _until(lambda told: bool(told.sockets - before.sockets))
        new = during.sockets - before.sockets
        after = await _until(lambda told: bool(new - told.sockets)) if new else during
        hidden = await asyncio.gather(*(_hidden(node) for node in await alist_nodes()))
    except StateError as error:
        return fault(f"the state cannot be reached: {error}", advice.NO_STATE)
    finally:
        await get_node().close()
    verdict = _judged(during, bool(new - after.sockets))
    for hides in filter(None, hidden):
        if verdict.status is Status.OK:
            return warning(f"{verdict.message}; {hides}", advice.HIDDEN_SERVER)
    return verdict


async def _hidden(node: NodeInfo) -> str:
    """The middleware that keeps `node` from seeing the ASGI server it runs in."""
    where = get_node(), node.name, node.address
    try:
        answer = await call_node(*where, HIDDEN, {})
    except NoAnswer:  # which another check tells
        return ""
    return ", ".join(answer["hidden_by"])


async def state(site: Site) -> Verdict:
    """Tries what the state needs of Redis, and looks at what Redis does when its memory is full."""
    # in a thread, as above
    found = await asyncio.to_thread(get_state)
    try:
        if lacks := await found.lacks():
            said = "; ".join(f"{name} ({why})" for name, why in lacks.items())
            return fault(f"Redis does not do {said}", advice.LACKS)
        return _judged_policy(await _policy(found))
    except StateError as error:
        return fault(f"the state cannot be reached: {error}", advice.NO_STATE)
    finally:
        await found.close()


async def _policy(state: State) -> str | None:
    """The eviction policy; "" when the server does not tell."""
    try:
        return await state.eviction_policy()
    except StateRefused:
        return ""


def _judged_policy(policy: str | None) -> Verdict:
    if policy is None:
        return ok("in memory, by these settings")
    if policy == "":
        return ok("Redis does all that is needed; it forbids to ask what it evicts")
    if policy == "noeviction":
        return ok("Redis does all that is needed, and evicts nothing")
    return warning(f"Redis evicts keys (maxmemory-policy {policy})", advice.EVICTION)


def _judged(told: Told, knows_us: bool) -> Verdict:
    times = [took for took in told.took if took is not None]
    answer = f"{len(times)} of {len(told.took)} processes answer"
    if not told.took:
        return fault("no process of the site is known", advice.NO_NODE)
    if not times:
        return fault(answer, advice.NO_ANSWER)
    if not knows_us:
        return fault(f"{answer}, none of them has this connection", advice.NO_NODE)
    if len(times) < len(told.took):
        return warning(answer, advice.SOME_ANSWERS)
    message = f"{answer}, the slowest in {max(times) * 1000:.0f} ms"
    return warning(message, advice.SLOW_LAYER) if max(times) > SLOW else ok(message)


async def _until(condition: Callable[[Told], bool]) -> Told:
    """What they say when it meets `condition`, or when patience is over."""
    end = time.monotonic() + CALL_TIMEOUT
    while not condition(told := await _ask_all()) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return told


async def _ask_all() -> Told:
    answers = await asyncio.gather(*(_ask(node) for node in await alist_nodes()))
    return Told([took for took, _ in answers], set().union(*(s for _, s in answers)))


async def _ask(node: NodeInfo) -> tuple[float | None, set[str]]:
    """How long `node` takes to tell of its sockets, and their ids."""
    body = {"topic": None, "user": None, "limit": LIMIT}
    where = get_node(), node.name, node.address
    started = time.monotonic()
    try:
        answer = await call_node(*where, "list_sockets", body)
    except NoAnswer:
        return None, set()
    took = time.monotonic() - started
    return took, {socket["id"] for socket in answer["sockets"]}
