"""The Lua scripts as text: the commands that they call, and the keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phx_protocol.state import scripts
from phx_protocol.state.scripts import NEEDED, PARTS, WRITERS, script

LUA = Path(scripts.__file__).parent / "lua"
TEXTS = {path.stem: path.read_text() for path in LUA.glob("*.lua")}
#: commands that change no key
READS = {
    *("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "LLEN"),
    *("LRANGE", "PTTL", "SISMEMBER", "SRANDMEMBER", "SUNION", "TIME", "XLEN", "XRANGE"),
    *("ZCARD", "ZRANGEBYSCORE", "ZSCORE"),
}
#: those that only tidy up: nobody has seen what is lost with these steps
TIDYING = {"dead", "groups", "heads", "many", "positions", "rewind", "since"}


def test_every_command_of_a_script_is_one_that_the_doctor_tries() -> None:
    called = set(re.findall(r"call\('([A-Z]+)'", "".join(TEXTS.values())))
    assert called | {"HSCAN", "SSCAN"} == set(NEEDED)


@pytest.mark.parametrize("name", TEXTS)
def test_no_script_builds_the_name_of_a_key(name: str) -> None:
    for command, key in re.findall(r"call\('([A-Z]+)', ([^,)]+)", TEXTS[name]):
        assert ".." not in key and "'" not in key, command


def test_the_steps_of_each_script_that_writes_are_counted() -> None:
    shared = set().union(*PARTS.values())
    names = TEXTS.keys() - {"begin", "answer", "generation"} - shared
    for name in names:
        parts = [name, *PARTS.get(name, ())]
        text = "".join(TEXTS[part] for part in parts)
        called = set(re.findall(r"call\('([A-Z]+)'", text))
        writes = bool(called - READS)
        assert (name in WRITERS) == (writes and name not in TIDYING), name


def test_a_script_is_known_by_its_sum() -> None:
    found = script("reset")
    assert found.source.startswith(b"-- The beginning of every script.")
    assert len(found.sha) == 40 and script("reset") is found
