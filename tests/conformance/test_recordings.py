"""Every recorded exchange of a real Phoenix 1.8.12, replayed against live servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import replay
from tests.support import servers

HERE = Path(__file__).parent
VECTORS = {f"{v['group']}/{v['name']}": v for v in replay.load(HERE / "vectors")}
DIVERGENCES: dict[str, dict[str, Any]] = json.loads(
    (HERE / "divergences.json").read_text()
)

# the server, and its protocol class or the layer on Redis if it is not the usual one
SERVERS = [
    "uvicorn-frames",
    "daphne",
    pytest.param("uvicorn-redis", marks=pytest.mark.big),
    pytest.param("uvicorn", marks=pytest.mark.big),
    pytest.param("uvicorn-core", marks=pytest.mark.big),
    pytest.param("uvicorn-cluster", marks=pytest.mark.big),
    pytest.param("hypercorn", marks=pytest.mark.big),
    pytest.param("granian", marks=pytest.mark.big),
]

Results = dict[str, list[str]]


def diverges(case: str, names: set[str]) -> bool:
    return any(
        fnmatch(case, name) and names.intersection(entry["on"])
        for name, entry in DIVERGENCES.items()
    )


@pytest.fixture(scope="module", params=SERVERS)
def replayed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[set[str], Results]]:
    """What is special about the server, and all cases, replayed several at a time: case -> problems."""
    server, _, variant = request.param.partition("-")
    env, command = {}, server
    if variant == "frames":
        command = variant
    elif variant == "cluster":
        cluster = request.getfixturevalue("cluster")
        env = {"PHX_LAYER": "redis", "PHX_REDIS_URL": cluster.url}
    elif variant:
        env = {
            "PHX_LAYER": variant,
            "PHX_REDIS_URL": request.getfixturevalue("redis_url"),
        }
    log = tmp_path_factory.mktemp(request.param) / "server.log"
    with servers.serve(command, log, **env) as running:
        yield {server, variant}, asyncio.run(replay_all(running.url))


def is_timed(vector: dict[str, Any]) -> bool:
    return any("max_s" in step for step in vector["steps"])


async def replay_all(base: str) -> Results:
    """What is timed mostly waits: all of that at once, and nothing large beside it."""
    timed = [v for v in VECTORS.values() if is_timed(v)]
    others = [v for v in VECTORS.values() if not is_timed(v)]
    results: Results = {}
    for vectors, at_once in ((timed, len(timed)), (others, 8)):
        room = asyncio.Semaphore(at_once)
        replays = await asyncio.gather(
            *(replay.run_one(base, v, 2.0, room) for v in vectors)
        )
        results |= {case: problems for case, problems, *_ in replays}
    return results


@pytest.mark.parametrize("group", sorted({v["group"] for v in VECTORS.values()}))
def test_the_server_answers_as_phoenix_did(
    group: str, replayed: tuple[set[str], Results]
) -> None:
    names, results = replayed
    problems = {
        case: found
        for case, found in results.items()
        if case.startswith(f"{group}/") and found and not diverges(case, names)
    }
    assert not problems


def test_every_divergence_is_real(replayed: tuple[set[str], Results]) -> None:
    """An entry that no case needs any more is taken out of the file."""
    names, results = replayed
    needless = [
        name
        for name, entry in DIVERGENCES.items()
        if names.intersection(entry["on"])
        and not any(
            problems for case, problems in results.items() if fnmatch(case, name)
        )
    ]
    assert not needless


def test_the_divergences_are_few_and_explained() -> None:
    assert len(DIVERGENCES) <= 40
    for name, entry in DIVERGENCES.items():
        assert set(entry) == {"kind", "why", "on"}, name
        assert entry["kind"] in ("server", "better", "beam") and entry["why"], name
        assert any(fnmatch(case, name) for case in VECTORS), name
