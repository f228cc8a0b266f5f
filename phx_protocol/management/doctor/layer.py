"""The checks of the channel layer and of Redis.

The first asks all processes over the layer for the doctor's own socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from channels.layers import get_channel_layer

from phx_protocol.conf import options
from phx_protocol.exceptions import StateError, StateRefused
from phx_protocol.introspection import NodeInfo, alist_nodes, sees_one_process
from phx_protocol.introspection.infos import disagree
from phx_protocol.node.node import get_node
from phx_protocol.node.rpc import CALL_TIMEOUT, NoAnswer, call_node
from phx_protocol.pubsub.link import is_in_memory
from phx_protocol.state import State, get_states
from phx_protocol.transports.servers.hidden import HIDDEN

from . import advice
from .client import connect
from .findings import Status, Verdict, fault, ok, warning
from .site import Site

#: seconds after which a round trip is slow
SLOW = 0.5
#: the most sockets that one process lists
LIMIT = 10_000


class Answers(NamedTuple):
    """The answers of the processes: the seconds that each took (None: no answer), and all sockets."""

    took: list[float | None]
    sockets: set[str]


async def round_trip(site: Site) -> Verdict:
    """Look twice before it is a fault: a busy process may have needed longer than it is waited for."""
    verdict = await _round_trip(site)
    return verdict if verdict.status is not Status.FAULT else await _round_trip(site)


async def _round_trip(site: Site) -> Verdict:
    """Open a socket, and look in the processes for one that comes and goes with it."""
    # in a thread: it imports a lot, and other checks measure time meanwhile
    if await asyncio.to_thread(sees_one_process):
        return warning("in memory, by these settings", advice.IN_MEMORY)
    try:
        before = await _survey()
        async with connect(site):
            during = await _until(lambda now: bool(now.sockets - before.sockets))
        new = during.sockets - before.sockets
        after = await _until(lambda now: bool(new - now.sockets)) if new else during
        hidden = await asyncio.gather(*(_hidden(node) for node in await alist_nodes()))
    except StateError as error:
        return fault(f"the state cannot be reached: {error}", advice.NO_STATE)
    finally:
        await get_node().close()
    verdict = _judged(during, bool(new - after.sockets))
    if verdict.status is Status.OK and len(during.took) > 1 and _is_in_memory():
        # the local bus carries broadcasts only
        apart = "each has presences and histories of its own"
        return warning(f"{verdict.message}; {apart}", advice.IN_MEMORY)
    for hides in filter(None, hidden):
        if verdict.status is Status.OK:
            return warning(f"{verdict.message}; {hides}", advice.HIDDEN_SERVER)
    return verdict


def _is_in_memory() -> bool:
    return is_in_memory(get_channel_layer(options().channel_layer))


async def _hidden(node: NodeInfo) -> str:
    """Return the middleware that hides the ASGI server of `node` from it, or ""."""
    where = get_node(), node.name, node.address
    try:
        answer = await call_node(*where, HIDDEN, {})
    except NoAnswer:  # another finding reports that
        return ""
    return ", ".join(answer["hidden_by"])


async def state(site: Site) -> Verdict:
    """Try the commands of Redis that the state needs, and read its eviction policy."""
    # in a thread, as above
    states = await asyncio.to_thread(get_states)
    verdicts = [await _server(state) for state in states]
    if all(verdict.status is Status.OK for verdict in verdicts):
        if different := await _different():
            return warning(different, advice.OTHER_SERVERS)
    if len(states) == 1:
        return verdicts[0]
    named = [
        verdict._replace(message=f"{state.server}: {verdict.message}")
        for state, verdict in zip(states, verdicts)
    ]
    # a message for all, and what to change for the first that is not well
    worst = next((v for v in named if v.status is not Status.OK), named[0])
    return worst._replace(message="; ".join(verdict.message for verdict in named))


async def _different() -> str:
    """Say which processes use which servers of the state, if it is not the same for all."""
    try:
        nodes = await alist_nodes()
    except StateError:
        return ""
    finally:
        await get_node().close()
    if not disagree(nodes):
        return ""
    said = (f"{n.host}, pid {n.pid}: {', '.join(n.servers)}" for n in nodes)
    return f"processes use different servers of the state ({'; '.join(said)})"


async def _server(state: State) -> Verdict:
    try:
        if lacks := await state.lacks():
            listed = "; ".join(f"{name} ({why})" for name, why in lacks.items())
            return fault(f"Redis does not do {listed}", advice.LACKS)
        began = time.monotonic()
        await state.nodes()
        took = (time.monotonic() - began) * 1000
        verdict = _judged_policy(await _policy(state))
        if not state.server:
            return verdict
        return verdict._replace(message=f"{verdict.message}, {took:.1f} ms away")
    except StateError as error:
        return fault(f"the state cannot be reached: {error}", advice.NO_STATE)
    finally:
        await state.close()


async def _policy(state: State) -> str | None:
    """Return the eviction policy of Redis; "" if Redis forbids to read it; None in memory."""
    try:
        return await state.eviction_policy()
    except StateRefused:
        return ""


def _judged_policy(policy: str | None) -> Verdict:
    if policy is None:
        return ok("in memory, by these settings")
    if policy == "":
        return ok("Redis does all that is needed; it does not say what it evicts")
    if policy == "noeviction":
        return ok("Redis does all that is needed, and evicts nothing")
    return warning(f"Redis evicts keys (maxmemory-policy {policy})", advice.EVICTION)


def _judged(answers: Answers, knows_us: bool) -> Verdict:
    times = [took for took in answers.took if took is not None]
    answer = f"{len(times)} of {len(answers.took)} processes answer"
    if not answers.took:
        return fault("no process of the site is known", advice.NO_NODE)
    if not times:
        return fault(answer, advice.NO_ANSWER)
    if not knows_us:
        return fault(f"{answer}, none of them has this connection", advice.NO_NODE)
    if len(times) < len(answers.took):
        return warning(answer, advice.SOME_ANSWERS)
    message = f"{answer}, the slowest in {max(times) * 1000:.0f} ms"
    return warning(message, advice.SLOW_LAYER) if max(times) > SLOW else ok(message)


async def _until(condition: Callable[[Answers], bool]) -> Answers:
    """Ask the processes until their answers meet `condition`, for CALL_TIMEOUT seconds at most."""
    end = time.monotonic() + CALL_TIMEOUT
    while not condition(answers := await _survey()) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return answers


async def _survey() -> Answers:
    answers = await asyncio.gather(*(_ask(node) for node in await alist_nodes()))
    return Answers([took for took, _ in answers], set().union(*(s for _, s in answers)))


async def _ask(node: NodeInfo) -> tuple[float | None, set[str]]:
    """Return how long `node` takes to list its sockets (None: no answer), and their ids."""
    body = {"topic": None, "user": None, "limit": LIMIT}
    where = get_node(), node.name, node.address
    started = time.monotonic()
    try:
        answer = await call_node(*where, "list_sockets", body)
    except NoAnswer:
        return None, set()
    took = time.monotonic() - started
    return took, {socket["id"] for socket in answer["sockets"]}
