"""Trial: what a Redis lets us have, for the doctor."""

from __future__ import annotations

from functools import partial

from ..exceptions import StateError, StateRefused
from .client import Client
from .scripts import NEEDED, TRY, Script
from .store import ONE_OF_MANY, AnyClient, tried


async def lacks(client: AnyClient, prefix: str) -> dict[str, str]:
    """Try each command that is used, on a key of its own. Return those that fail: command -> why.

    Raises StateError.
    """
    script, found = Script.of(TRY), dict[str, str]()
    hello, *_ = await tried(lambda again: client.everywhere("HELLO"))
    if isinstance(client, Client) and hello[b"mode"] == b"cluster":
        raise StateError(ONE_OF_MANY)
    for command, args in NEEDED.items():
        call = partial(client.eval, script, [f"{prefix}{command}"], [command, *args])
        try:
            error_text = await tried(lambda again: call())
        except StateRefused as error:
            return {"EVALSHA": str(error)}
        if error_text:
            found[command] = error_text.decode()
    return found


async def eviction_policy(client: AnyClient) -> str | None:
    """Return the setting maxmemory-policy; None if the servers do not tell it. Raises StateError."""
    ask = "CONFIG", "GET", "maxmemory-policy"
    each = await tried(lambda again: client.everywhere(*ask))
    found = {p.decode() for one in each if (p := one.get(b"maxmemory-policy"))}
    # of several servers the one that evicts
    return max(found, key=lambda policy: policy != "noeviction", default=None)
