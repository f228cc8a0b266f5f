"""A proxy in front of a site that limits addresses."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import override_settings

from phx_protocol.management.doctor import proxies
from phx_protocol.management.doctor.findings import Status
from tests.management.doctor.site import answering, site


@pytest.mark.parametrize(
    "phx, headers, status, said",
    [
        ({}, {"Server": "nginx"}, Status.OK, "no limit by address"),
        ({"CONNECT_RATE": "1/s"}, {"Server": "uvicorn"}, Status.OK, "no proxy"),
        ({"CONNECT_RATE": "1/s"}, {}, Status.OK, "no proxy"),
        ({"CONNECT_RATE": "1/s"}, {"Server": "nginx/1.22"}, Status.WARNING, "nginx"),
        (
            {"MAX_CONNECTIONS_PER_ADDRESS": 9},
            {"Server": "uvicorn", "Via": "1.1 varnish"},
            Status.WARNING,
            "varnish",
        ),
        (
            {"CONNECT_RATE": "1/s", "TRUSTED_PROXIES": ["10.0.0.7"]},
            {"Server": "nginx"},
            Status.OK,
            "TRUSTED_PROXIES is set",
        ),
    ],
)
async def test_a_proxy_that_is_not_named_is_found(
    phx: Any, headers: Any, status: Status, said: str
) -> None:
    with answering(time.time(), **headers) as url, override_settings(PHX_PROTOCOL=phx):
        verdict = await proxies.named(site(url))
    assert verdict.status is status and said in verdict.message
    assert bool(verdict.change) == (status is Status.WARNING)
