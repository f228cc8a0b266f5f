"""Requests of long-poll: their tokens, their bodies, and what they are answered."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.core import signing
from django.test import override_settings

from phx_protocol import ConnectionRefused, abroadcast
from tests.support.asgi_poll_client import NDJSON, Client, Request
from tests.transports.longpoll.rooms import (
    HEARTBEAT,
    PatientSocket,
    PollSocket,
    opened,
)


async def test_every_answer_has_the_headers_of_phoenix() -> None:
    client = Client(PollSocket)
    request = await client.request("GET").send()
    await request.answer()
    assert request.status == 200
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["cache-control"] == "no-store"
    assert request.headers["access-control-allow-origin"] == "*"


async def test_too_many_lines_are_refused_as_a_whole() -> None:
    client = await opened()
    answer = await client.post(*[HEARTBEAT] * 1001)
    assert answer == {"status": 413, "reason": "request too large"}
    assert (await client.poll())["status"] == 204


@pytest.mark.parametrize("line", [b"", b"%%%", b"\xff\xfe", b"[", b"AAAA\r"])
async def test_lines_are_counted_before_they_are_read(line: bytes) -> None:
    client = await opened()
    body = b"\n".join([line] * 1001)
    answer = {"status": 413, "reason": "request too large"}
    assert await client.post_body(body) == answer
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_body_of_which_no_end_comes_is_refused_in_time() -> None:
    class HastySocket(PollSocket):
        longpoll = {"READ_TIMEOUT": 0.05}

    client = await opened(HastySocket)
    request = client.request("POST")
    await request.send_part(b"[")
    assert (await request.body(), request.status) == (b"", 408)
    assert request.headers["connection"] == "close"
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_body_that_is_too_large_is_refused() -> None:
    client = await opened()
    request = await client.request("POST", b"[" + b"x" * 50_000).send()
    assert (await request.body(), request.status) == (b"", 400)
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_poll_of_a_session_that_is_gone_opens_another() -> None:
    client = await opened(PatientSocket, id="users:1")
    await abroadcast("users:1", "disconnect", {})
    answer = await client.poll()
    assert answer["status"] == 410 and answer["token"] != client.token


async def refused(client: Client, token: Any) -> bool:
    """Whether `token` is none: a POST is 410, a GET opens another session."""
    client.token = token
    posted = (await client.post(HEARTBEAT))["status"]
    got = await client.poll()
    return bool(posted == got["status"] == 410)


async def test_a_token_that_we_did_not_sign_is_none() -> None:
    client = await opened()
    token = str(client.token)
    foreign = signing.dumps(["id", None], salt="phx_protocol.longpoll")
    for bad in (token + "x", token[:-5], token[5:], "garbage", "é", foreign, "phx."):
        assert await refused(client, bad), bad
    client.token = token
    assert await client.post(HEARTBEAT) == {"status": 200}


class OtherSocket(PatientSocket):
    pass


async def test_a_token_of_another_mount_is_none() -> None:
    client = await opened(PatientSocket)
    client.path = "/other/longpoll"
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.path, client.socket_class = "/socket/longpoll", OtherSocket
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.socket_class = PatientSocket
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_mount_is_the_same_by_whichever_of_its_urls() -> None:
    client = await opened(PatientSocket)
    client.path = "/socket/longpoll/"
    assert await client.post(HEARTBEAT) == {"status": 200}
    client.path, client.root_path = "/app/socket/longpoll", "/app"
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_the_parameter_of_an_application_may_be_called_token() -> None:
    class Reading(PatientSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            if params.get("token") != "mine":
                raise ConnectionRefused(403)

    client = await opened(Reading, token="mine", id="users:1")
    assert (await client.join("room:a"))["status"] == "ok"
    await abroadcast("users:1", "disconnect", {})
    # phoenix.js has both in its URL, and learns that there is a new session
    assert (await client.poll())["status"] == 410
    assert await Client(Reading, {"token": "theirs"}).open() == {"status": 403}


async def test_an_old_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await opened()
    later = time.time() + 1_209_601
    monkeypatch.setattr(time, "time", lambda: later)
    assert await refused(client, client.token)


async def test_a_token_outlives_the_rotation_of_the_secret_key() -> None:
    client = await opened()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        assert await client.post(HEARTBEAT) == {"status": 200}
    with override_settings(SECRET_KEY="new"):
        assert await client.post(HEARTBEAT) == {"status": 410}


async def test_a_token_in_the_header_wins_even_when_it_is_bad() -> None:
    client = await opened()
    client.headers["x-phoenix-longpoll-token"] = "bad"
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.headers["x-phoenix-longpoll-token"], client.token = str(client.token), "bad"
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_refusal_is_403_in_the_body_with_its_reason_and_one_that_passes_500() -> (
    None
):
    assert await Client(PollSocket, {"status": "403"}).open() == {"status": 403}
    for status, answered in (("404", 403), ("429", 500), ("503", 500)):
        refused = Client(PollSocket, {"status": status, "reason": "slow down"})
        assert await refused.open() == {"status": answered, "reason": "slow down"}


async def test_a_crash_in_connect_is_500_on_which_clients_try_again() -> None:
    assert await Client(PollSocket, {"crash": "1"}).open() == {"status": 500}


class StrictSocket(PollSocket):
    check_origin = ["http://allowed.test"]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_another_origin_is_refused_whatever_it_asks(method: str) -> None:
    client = Client(StrictSocket, headers={"origin": "http://evil.test"})
    request = await client.request(method).send()
    assert await request.answer() == {"status": 403}
    assert "access-control-allow-headers" not in request.headers


async def test_a_preflight_allows_what_it_asks_for() -> None:
    headers = {"access-control-request-headers": "x-phoenix-authtoken,content-type"}
    client = Client(StrictSocket, headers={"origin": "http://allowed.test", **headers})
    request = await client.request("OPTIONS").send()
    assert await request.body() == b""
    assert request.headers["access-control-allow-headers"] in headers.values()
    assert request.headers["access-control-allow-methods"] == "get, post, options"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_another_method_is_400(method: str) -> None:
    request = await Client(PollSocket).request(method).send()
    assert (await request.body(), request.status) == (b"", 400)


async def test_bad_parameters_are_400() -> None:
    request = await Request(PollSocket, "GET", b"vsn=2.0.0&a=%ff").send()
    assert (await request.body(), request.status) != (b"", 200)
    assert request.status == 400


async def test_ndjson_is_known_by_its_exact_content_type_only() -> None:
    client = await opened()
    two = b"\n".join([json.dumps(HEARTBEAT).encode()] * 2)
    assert await client.post_body(two, NDJSON) == {"status": 200}
    assert await client.post_body(two, f"{NDJSON}; charset=utf-8") == {"status": 408}
