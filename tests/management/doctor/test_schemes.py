"""The findings about schemes and subprotocols, at real servers that are strict about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from phx_protocol.management.doctor import Site, own_origin, parse_mount, websocket
from phx_protocol.management.doctor.findings import Status
from tests.integration import test_behind_proxies as behind

STRICT = {
    "SECURE_SSL_REDIRECT": True,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
}


@pytest.fixture(scope="module")
def daphne(tmp_path_factory: pytest.TempPathFactory) -> Iterator[behind.Site]:
    """A site that is https only, and has a subprotocol."""
    names = {"PHX_PROTOCOL": {"SUBPROTOCOLS": ["chat.v1"]}}
    log = tmp_path_factory.mktemp("daphne") / "log"
    with behind.site("daphne", log, **STRICT, **names) as running:
        yield running


def seen(running: behind.Site, http_port: int = 80) -> Site:
    """The site as the doctor looks at it."""
    mount = parse_mount(f"{running.own_origin}/socket")
    return Site(mount, own_origin(mount), http_port=http_port)


async def test_a_server_that_says_no_scheme_lets_sessions_open_in_the_clear(
    daphne: behind.Site,
) -> None:
    with override_settings(**STRICT):
        verdict = await websocket.in_the_clear(seen(daphne))
    assert verdict.status is Status.WARNING
    assert "SECURE_PROXY_SSL_HEADER" in verdict.change
    with override_settings(SECURE_SSL_REDIRECT=False):
        assert (await websocket.in_the_clear(seen(daphne))).status is Status.OK


async def test_a_site_of_https_that_answers_over_http_is_found(
    daphne: behind.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind.daphne_with_tls(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.certificate))
        open_twice = await websocket.in_the_clear(seen(running, daphne.port))
        # to that port nobody speaks http
        closed = await websocket.in_the_clear(seen(running, running.port))
        assert (await websocket.own_origin(seen(running))).status is Status.OK
        assert (await websocket.proxy_scheme(seen(running))).status is Status.OK
    assert open_twice.status is Status.WARNING
    assert "read on the way" in open_twice.change
    assert closed.status is Status.OK


async def test_the_word_of_a_proxy_counts_where_the_settings_say_so(
    daphne: behind.Site,
) -> None:
    with override_settings(**STRICT):
        verdict = await websocket.proxy_scheme(seen(daphne))
    assert verdict.status is Status.OK and "'wss'" in verdict.message
    another = ("HTTP_X_SCHEME", "https")  # of which the site knows nothing
    with override_settings(SECURE_PROXY_SSL_HEADER=another):
        # Daphne says nothing else, so a page over https may be of the site
        assert (await websocket.proxy_scheme(seen(daphne))).status is Status.OK


async def test_a_word_that_does_not_count_is_warned_of(tmp_path: Path) -> None:
    header = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}
    with behind.site("uvicorn", tmp_path / "log", "--no-proxy-headers") as running:
        with override_settings(**header):
            verdict = await websocket.proxy_scheme(seen(running))
    assert verdict.status is Status.WARNING
    assert "'X-Forwarded-Proto: https'" in verdict.message


async def test_whether_others_may_offer_a_subprotocol_is_said(
    daphne: behind.Site,
) -> None:
    verdict = await websocket.other_subprotocol(seen(daphne))
    assert verdict.status is Status.OK and "403" in verdict.message


@pytest.mark.parametrize("host", ["[::1]:8443", "example.com", "a@example.com:443"])
def test_in_the_clear_it_is_the_same_host(host: str) -> None:
    mount = parse_mount(f"https://{host}/socket")
    site = dataclasses.replace(Site(mount, own_origin(mount)), http_port=8080)
    assert site.in_the_clear().websocket("2.0.0") == (
        f"ws://{'[::1]' if '[' in host else 'example.com'}:8080/socket/websocket?vsn=2.0.0"
    )
