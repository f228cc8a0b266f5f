"""What the tests of the state share: a lease that ends and a Redis that forgets, at once."""

from __future__ import annotations

from phx_protocol.state import Item, State
from phx_protocol.state.memory import MemoryState
from phx_protocol.state.redis import RedisState

FORGET = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
"""


async def end_lease(state: State, node: str) -> None:
    """As if `node` had not beaten for too long; nobody has reaped it yet."""
    if isinstance(state, MemoryState):
        if node in state._nodes:
            state._nodes[node].until = 0.0
    else:
        assert isinstance(state, RedisState)
        await state._redis.zadd(await key(state, "nodes"), {node: 1}, xx=True)


async def key(state: RedisState, name: str) -> str:
    """The name of a key in Redis: of no other generation."""
    generation = await state._redis.get(f"{state._prefix}generation") or b"none"
    return f"{state._prefix}{generation.decode()}:{name}"


async def forget(state: RedisState) -> None:
    """Delete all of its keys, as if Redis had lost them."""
    await state._redis.eval(FORGET, 0, f"{state._prefix}*")


def item(
    id: str, topic: str = "topic", size: int = 100, ttl: float = 60.0, payload: int = 0
) -> Item:
    body = b'{"id": "%s"}%s' % (id.encode(), b" " * payload)
    return Item(topic, id, "event", body, None, size, ttl)
