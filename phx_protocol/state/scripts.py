"""The Lua scripts of the state: their text, and the commands that they need."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

#: script -> the shared parts that it needs
PARTS = {
    **dict.fromkeys(("change", "bury", "take", "wait"), ("group",)),
    **dict.fromkeys(("append", "since", "rewind", "many"), ("kept",)),
    "look": ("names",),
    **dict.fromkeys(
        ("claim", "hold", "mark", "told", "vacate"), ("names", "occupancy")
    ),
}
#: scripts that write, whose steps Redis counts
WRITERS = frozenset(
    {"append", "beat", "bury", "change", "count", "open", "remove", "reset"}
    | {"rate", "take", "wait", "claim", "hold", "mark", "told", "vacate"}
)
#: all that Redis counts: each beat asks all hash tags for the owners, so the latest count of a node that
#: beats is everywhere, and is missed wherever steps are lost
COUNTED = WRITERS | {"owners"}

#: command -> arguments after the key, to try it with
NEEDED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("GET", "EXISTS", "PTTL", "HGETALL", "HKEYS", "HLEN", "SUNION"), ()
    ),
    **dict.fromkeys(("LLEN", "XLEN", "ZCARD", "UNLINK"), ()),
    **dict.fromkeys(("HDEL", "HEXISTS", "HGET", "HMGET", "SADD", "SREM"), ("a",)),
    "SISMEMBER": ("a",),
    **dict.fromkeys(("ZSCORE", "ZREM", "RPUSH"), ("a",)),
    **dict.fromkeys(("HSET", "HSETNX"), ("a", "1")),
    **dict.fromkeys(("HSCAN", "SSCAN"), (0, "COUNT", 1)),
    **dict.fromkeys(("SPOP", "SRANDMEMBER"), (1,)),
    **dict.fromkeys(("LRANGE", "LTRIM"), (0, -1)),
    "SET": ("1", "PX", 1000),
    "PEXPIRE": (1000,),
    "ZADD": (1, "a"),
    "ZRANGEBYSCORE": ("-inf", 1, "LIMIT", 0, 1),
    "XADD": ("MAXLEN", "=", 9, "1-0", "a", "b"),
    "XRANGE": ("-", "+", "COUNT", 1),
    "XTRIM": ("MAXLEN", "=", 9),
    "TIME": (),
}
TRY = """
local args = {KEYS[1], unpack(ARGV, 2)}
local said = redis.pcall(ARGV[1], unpack(ARGV[1] == 'TIME' and {} or args))
redis.pcall('UNLINK', KEYS[1])
return type(said) == 'table' and said.err or ''
"""


class Script(NamedTuple):
    source: bytes
    sha: bytes

    @classmethod
    def of(cls, text: str) -> Script:
        source = text.encode()
        return cls(source, hashlib.sha1(source).hexdigest().encode())


@cache
def script(name: str) -> Script:
    """Return the script `name` with all of its parts."""
    parts = ["begin", *PARTS.get(name, ()), name, "answer"]
    return Script.of("".join(map(_part, parts)))


@cache
def generation() -> Script:
    """Return the script that begins a generation; it has no parts."""
    return Script.of(_part("generation"))


def _part(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text()
