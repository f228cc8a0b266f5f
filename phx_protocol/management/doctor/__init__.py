"""The checks of ``manage.py phx_doctor``, which see a site as its clients do; each is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import SplitResult

from . import clock, layer, longpoll, outbox, proxies, websocket
from .findings import CheckFailed, Finding, Status, Verdict, fault, skipped
from .site import TLS, Site, own_origin, parse_mount

__all__ = [
    "Finding",
    "Site",
    "Status",
    "examine",
    "of_the_settings",
    "own_origin",
    "parse_mount",
]

Stage = Mapping[str, Callable[[Site], Awaitable[Verdict]]]

#: each group is a row of stages; after a stage with a fault, the next ones are skipped
GROUPS: tuple[tuple[Stage, ...], ...] = (
    (
        {"websocket": websocket.path},
        {
            "origin": websocket.own_origin,
            "foreign origin": websocket.foreign_origin,
            "subprotocol": websocket.subprotocol,
            "other subprotocol": websocket.other_subprotocol,
            "in the clear": websocket.in_the_clear,
            "proxy scheme": websocket.proxy_scheme,
            "token size": websocket.token_size,
            "vsn 2.0.0": websocket.version_2,
            "vsn 1.0.0": websocket.version_1,
            "compression": websocket.compression,
            "websocket delay": websocket.delay,
            "idle timeout": websocket.idle_timeout,
            "layer": layer.round_trip,
        },
    ),
    (
        {"long-poll": longpoll.opening},
        {"long-poll delay": longpoll.delay},
        {"long-poll connections": longpoll.connections},
        {"long-poll window": longpoll.window},
    ),
    ({"state": layer.state},),
    ({"outbox": outbox.backlog},),
    ({"clock": clock.skew, "proxies": proxies.named},),
)


def of_the_settings(mount: SplitResult) -> frozenset[str]:
    """Return the names of the checks that need the settings of the site."""
    over_http = () if TLS[mount.scheme] else ("in the clear", "proxy scheme")
    return frozenset({"layer", "outbox", "state", "proxies", *over_http})


async def examine(site: Site, without: frozenset[str] = frozenset()) -> list[Finding]:
    """Run every check on `site` but those in `without`; return the findings in order.

    All groups run at once, so this takes little longer than ``site.idle``.
    """
    found = await asyncio.gather(*(_group(site, group, without) for group in GROUPS))
    return sum(found, [])


async def _group(
    site: Site, stages: tuple[Stage, ...], without: frozenset[str]
) -> list[Finding]:
    findings: list[Finding] = []
    for stage in stages:
        missing = next((f.check for f in findings if f.blocks), None)
        verdicts = await asyncio.gather(
            *(
                _verdict(site, check, missing, name in without)
                for name, check in stage.items()
            )
        )
        findings += map(Finding.of, stage, verdicts)
    return findings


async def _verdict(
    site: Site,
    check: Callable[[Site], Awaitable[Verdict]],
    missing: str | None,
    is_unwanted: bool,
) -> Verdict:
    if is_unwanted:
        return skipped("left out by --no-layer")
    if missing is not None:
        return skipped(f"{missing!r} must be ok first")
    try:
        return await check(site)
    except CheckFailed as failed:
        return fault(str(failed), failed.change)
    except Exception as error:  # the other checks still run
        return fault(f"{type(error).__name__}: {error}")
